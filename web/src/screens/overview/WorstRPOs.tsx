import { Card, CardBody, CardTitle } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { Link } from '@tanstack/react-router';
import { api } from '../../api/client';
import { seconds, span } from '../../format/time';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';

/** WorstRPOs are the machines that would lose most if their sources were gone now. */
export function WorstRPOs() {
  const query = api.useQuery('get', '/api/v1/machines', { params: { query: { sort: '-rpo', limit: 8 } } });
  return (
    <Card isFullHeight>
      <CardTitle component="h2">Worst RPOs</CardTitle>
      <CardBody>
        <Loaded query={query}>
          {(page) => {
            const list = page.items.filter((m) => m.rpo.instant && m.life !== 'finalized');
            return list.length === 0 ? <Nothing title="No restpoint yet">The first comes when a machine’s disks have been copied once.</Nothing> : (
              <Table aria-label="Worst RPOs" variant="compact">
                <Thead><Tr><Th>Machine</Th><Th>Would be lost</Th><Th>Goal</Th></Tr></Thead>
                <Tbody>
                  {list.map((m) => (
                    <Tr key={m.id}>
                      <Td dataLabel="Machine"><Link to="/machines/$machine" params={{ machine: m.id }}><Name text={m.name} most={32} /></Link></Td>
                      <Td dataLabel="Would be lost" className="om-number">{span(m.rpo.now)}</Td>
                      <Td dataLabel="Goal" className="om-number">{seconds(m.rpo.target) > 0 ? span(m.rpo.target) : 'none'}</Td>
                    </Tr>
                  ))}
                </Tbody>
              </Table>
            );
          }}
        </Loaded>
      </CardBody>
    </Card>
  );
}
