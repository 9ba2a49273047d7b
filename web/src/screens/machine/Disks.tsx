import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { api } from '../../api/client';
import type { MachineInfo } from '../../api/generated/schema';
import { bytes } from '../../format/amount';
import { shown } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';
import { Consistency, consistencyMeans } from '../../parts/states';

const trackers: Record<string, string> = {
  ebpf: 'Writes are tracked in the kernel: only what changed is read.',
  scan: 'Read whole each time.',
};

/** Disks says which tracker and which consistency each disk gets, and why not a better one. */
export function Disks({ m }: { m: MachineInfo }) {
  const query = api.useQuery('get', '/api/v1/machines/{machine}/disks', { params: { path: { machine: m.id }, query: { limit: 500 } } });
  return (
    <Loaded query={query}>
      {(page) => page.items.length === 0 ? (
        <Nothing title="No disks are known yet">Its agent says so when it has connected. On the server: openmigrate-agent status.</Nothing>
      ) : (
        <Table aria-label="Disks" variant="compact">
          <Thead><Tr><Th>Disk</Th><Th>Size</Th><Th>Copied</Th><Th>Tracker</Th><Th>Consistency</Th></Tr></Thead>
          <Tbody>
            {page.items.map((d) => (
              <Tr key={d.id}>
                <Td dataLabel="Disk"><Name text={d.path || d.name} most={60} /></Td>
                <Td dataLabel="Size" className="om-number">{d.size > 0 ? bytes(d.size) : '–'}</Td>
                <Td dataLabel="Copied">{d.replicated ? 'yes' : 'no'}</Td>
                <Td dataLabel="Tracker" modifier="breakWord">
                  {d.tracker ? <><strong>{d.tracker}</strong> {d.tracker_why ? shown(d.tracker_why, 300) : trackers[d.tracker]}</> : '–'}
                </Td>
                <Td dataLabel="Consistency" modifier="breakWord">
                  {d.consistency ? <><Consistency state={d.consistency} /> {d.consistency_why ? shown(d.consistency_why, 300) : consistencyMeans[d.consistency]}</> : '–'}
                </Td>
              </Tr>
            ))}
          </Tbody>
        </Table>
      )}
    </Loaded>
  );
}
