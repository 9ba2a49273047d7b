import { useState } from 'react';
import { Progress } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { Link } from '@tanstack/react-router';
import { keepPreviousData } from '@tanstack/react-query';
import { api } from '../../api/client';
import { percent } from '../../format/amount';
import { shown, words } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Nothing } from '../../parts/Nothing';
import { Pager, type Trail } from '../../parts/Pager';
import { OperationState } from '../../parts/states';
import { Ago } from '../../parts/Time';

/** Jobs are what nodes do and did. */
export function Jobs() {
  const [trail, setTrail] = useState<Trail>([]);
  const query = api.useQuery('get', '/api/v1/jobs', { params: { query: { limit: 25, cursor: trail.at(-1) } } }, { placeholderData: keepPreviousData });
  return (
    <Loaded query={query}>
      {(page) => page.total === 0 ? <Nothing title="No jobs">Nodes have nothing to do. Verifying a restpoint is one, launching a machine makes several.</Nothing> : (
        <>
          <Table aria-label="Jobs" variant="compact">
            <Thead><Tr><Th>Kind</Th><Th>State</Th><Th>Made</Th><Th>Restpoint</Th><Th>Tries</Th></Tr></Thead>
            <Tbody>
              {page.items.map((j) => (
                <Tr key={j.id}>
                  <Td dataLabel="Kind">{words(j.kind)}</Td>
                  <Td dataLabel="State" modifier="breakWord">
                    <OperationState state={j.state} /> {j.failure && shown(j.failure.message, 200)}
                    {j.state === 'running' && j.progress && j.progress.total > 0 && <Progress size="sm" aria-label={words(j.kind)} value={percent(j.progress.done, j.progress.total)} />}
                  </Td>
                  <Td dataLabel="Made"><Ago at={j.created} /></Td>
                  <Td dataLabel="Restpoint">{j.restpoint ? <Link to="/restpoints/$restpoint" params={{ restpoint: j.restpoint }}>Show it</Link> : '–'}</Td>
                  <Td dataLabel="Tries" className="om-number">{j.attempts}</Td>
                </Tr>
              ))}
            </Tbody>
          </Table>
          <Pager trail={trail} next={page.next_cursor} total={page.total} what="jobs" go={setTrail} />
        </>
      )}
    </Loaded>
  );
}
