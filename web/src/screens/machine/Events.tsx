import { Label } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import type { MachineInfo } from '../../api/generated/schema';
import { shown } from '../../format/text';
import { Nothing } from '../../parts/Nothing';
import { Time } from '../../parts/Time';

const status: Record<string, 'info' | 'warning' | 'danger'> = { info: 'info', warning: 'warning', error: 'danger' };

/** Events are what an agent found worth telling, newest first. */
export function Events({ m }: { m: MachineInfo }) {
  const events = [...(m.events ?? [])].reverse();
  if (events.length === 0) return <Nothing title="Nothing happened">Unreadable sectors, disks that vanish and the like would stand here. There is nothing to do.</Nothing>;
  return (
    <Table aria-label="Events" variant="compact">
      <Thead><Tr><Th>When</Th><Th>Level</Th><Th>What</Th><Th>Disk</Th></Tr></Thead>
      <Tbody>
        {events.map((e, i) => (
          <Tr key={`${e.time}-${i}`}>
            <Td dataLabel="When"><Time at={e.time} /></Td>
            <Td dataLabel="Level"><Label isCompact status={status[e.level] ?? 'info'}>{shown(e.level, 20)}</Label></Td>
            <Td dataLabel="What" modifier="breakWord">{shown(e.message, 600)} <span className="om-quiet">{shown(e.code, 60)}</span></Td>
            <Td dataLabel="Disk">{e.disk ? shown(e.disk, 60) : '–'}</Td>
          </Tr>
        ))}
      </Tbody>
    </Table>
  );
}
