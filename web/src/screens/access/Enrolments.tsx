import { useState } from 'react';
import { Button } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { Link } from '@tanstack/react-router';
import { keepPreviousData } from '@tanstack/react-query';
import { api, client } from '../../api/client';
import { useAct } from '../../app/act';
import { shown } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Nothing } from '../../parts/Nothing';
import { Pager, type Trail } from '../../parts/Pager';
import { Ago } from '../../parts/Time';

const named = 5;

/** Enrolments are the tokens with which agents and nodes come. */
export function Enrolments() {
  const [trail, setTrail] = useState<Trail>([]);
  const query = api.useQuery('get', '/api/v1/enrolment-tokens', { params: { query: { limit: 50, cursor: trail.at(-1) } } }, { placeholderData: keepPreviousData });
  const remove = useAct((token: string) => client.DELETE('/api/v1/enrolment-tokens/{token}', { params: { path: { token } } }),
    { done: 'The token is worthless now', failed: 'The token was not removed' });
  return (
    <Loaded query={query}>
      {(page) => page.total === 0 ? (
        <Nothing title="No enrolment tokens" action={<Link to="/add-machine">Add a machine</Link>}>One is made when a machine or a node is added.</Nothing>
      ) : (
        <>
          <Table aria-label="Enrolment tokens" variant="compact">
            <Thead><Tr><Th>For</Th><Th>Made</Th><Th>Ends</Th><Th>Uses left</Th><Th>Used by</Th><Th screenReaderText="Actions" /></Tr></Thead>
            <Tbody>
              {page.items.map((t) => (
                <Tr key={t.id}>
                  <Td dataLabel="For">{t.kind}</Td>
                  <Td dataLabel="Made"><Ago at={t.created} /> by {shown(t.by_whom, 40)}</Td>
                  <Td dataLabel="Ends"><Ago at={t.expires} /></Td>
                  <Td dataLabel="Uses left" className="om-number">{t.uses}</Td>
                  <Td dataLabel="Used by" modifier="breakWord">{t.used_by.slice(0, named).map((u) => shown(u, 40)).join(', ')}{t.used_by.length > named && ` and ${t.used_by.length - named} more`}</Td>
                  <Td><Button variant="link" isInline onClick={() => remove.start(t.id)}>Remove</Button></Td>
                </Tr>
              ))}
            </Tbody>
          </Table>
          <Pager trail={trail} next={page.next_cursor} total={page.total} what={page.total === 1 ? 'token' : 'tokens'} go={setTrail} />
        </>
      )}
    </Loaded>
  );
}
