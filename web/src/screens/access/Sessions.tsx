import { Button, Content } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { api, client } from '../../api/client';
import { useAct } from '../../app/act';
import { shown } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Ago } from '../../parts/Time';

/** Sessions are the browsers in which one is signed in. */
export function Sessions() {
  const query = api.useQuery('get', '/api/v1/me/sessions');
  const end = useAct((session: string) => client.DELETE('/api/v1/me/sessions/{session}', { params: { path: { session } } }), { done: 'That session has ended', failed: 'That session has not ended' });
  return (
    <>
      <Content component="h2" className="om-gap">Where you are signed in</Content>
      <Loaded query={query}>
        {(page) => (
          <Table aria-label="Sessions" variant="compact">
            <Thead><Tr><Th>Browser</Th><Th>From</Th><Th>Began</Th><Th>Used</Th><Th screenReaderText="Actions" /></Tr></Thead>
            <Tbody>
              {page.items.map((s) => (
                <Tr key={s.id}>
                  <Td dataLabel="Browser" modifier="breakWord">{shown(s.agent, 120)}</Td>
                  <Td dataLabel="From">{shown(s.address, 60)}</Td>
                  <Td dataLabel="Began"><Ago at={s.created} /></Td>
                  <Td dataLabel="Used"><Ago at={s.used} /></Td>
                  <Td><Button variant="link" isInline onClick={() => end.start(s.id)}>End it</Button></Td>
                </Tr>
              ))}
            </Tbody>
          </Table>
        )}
      </Loaded>
    </>
  );
}
