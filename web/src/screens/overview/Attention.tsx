import { Card, CardBody, CardTitle } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { Link } from '@tanstack/react-router';
import { api } from '../../api/client';
import { nextStep } from '../../app/nextstep';
import { shown } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';
import { ReplicationState } from '../../parts/states';

const listed = 8;

/** Attention lists what is wrong, the latest first, with what to do about it. */
export function Attention() {
  const query = api.useQuery('get', '/api/v1/machines', { params: { query: { attention: true, sort: '-lag', limit: listed } } });
  return (
    <Card isFullHeight>
      <CardTitle component="h2">Needs attention first</CardTitle>
      <CardBody>
        <Loaded query={query}>
          {(page) => page.total === 0 ? <Nothing title="All is well">Every machine is protected. There is nothing to do about their replication.</Nothing> : (
            <>
              <Table aria-label="Machines that need attention" variant="compact">
                <Thead><Tr><Th>Machine</Th><Th>State</Th><Th>Next</Th></Tr></Thead>
                <Tbody>
                  {page.items.map((m) => {
                    const next = nextStep(m);
                    return (
                      <Tr key={m.id}>
                        <Td dataLabel="Machine"><Link to="/machines/$machine" params={{ machine: m.id }}><Name text={m.name} most={32} /></Link></Td>
                        <Td dataLabel="State"><ReplicationState state={m.replication} /></Td>
                        <Td dataLabel="Next" modifier="breakWord"><strong>{next.label}.</strong> {shown(m.reason ?? next.why, 160)}</Td>
                      </Tr>
                    );
                  })}
                </Tbody>
              </Table>
              {page.total > page.items.length && <Link to="/machines" search={{ attention: true, sort: '-lag' }}>All {page.total.toLocaleString('en')}</Link>}
            </>
          )}
        </Loaded>
      </CardBody>
    </Card>
  );
}
