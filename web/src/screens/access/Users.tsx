import { useState } from 'react';
import { Alert, Button, Content, Label, SearchInput } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { keepPreviousData } from '@tanstack/react-query';
import { api, client, queries } from '../../api/client';
import type { Link, User } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { shown } from '../../format/text';
import { Command } from '../../parts/Command';
import { Confirm } from '../../parts/Confirm';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';
import { Pager, type Trail } from '../../parts/Pager';
import { Ago, Time } from '../../parts/Time';
import { done } from '../../parts/toasts';
import { NewUserForm } from './NewUserForm';

/** Users are the people who may sign in. */
export function Users() {
  const [trail, setTrail] = useState<Trail>([]);
  const [search, setSearch] = useState('');
  const [link, setLink] = useState<{ name: string; link: Link }>();
  const [asking, setAsking] = useState<User>();
  const query = api.useQuery('get', '/api/v1/users', { params: { query: { limit: 50, cursor: trail.at(-1), search: search || undefined } } }, { placeholderData: keepPreviousData });
  const match = (u: User) => ({ path: { user: u.id }, header: { 'If-Match': `"${u.revision}"` } });
  const able = useAct((u: User) => client.PATCH('/api/v1/users/{user}', { params: match(u), body: { disabled: !u.disabled } }),
    { done: (u) => (u.disabled ? `${shown(u.name, 40)} may sign in again` : `${shown(u.name, 40)} is shut out`), failed: 'The user was not changed' });
  const relink = useAct(async (u: User) => {
    const { data } = await client.POST('/api/v1/users/{user}/link', { params: { path: { user: u.id } } });
    setLink({ name: u.name, link: data! });
  }, { failed: 'No link was made' });
  const end = useAct((u: User) => client.DELETE('/api/v1/users/{user}/sessions', { params: { path: { user: u.id } } }), { done: 'All sessions have ended', failed: 'The sessions have not ended' });
  return (
    <>
      <NewUserForm made={(name, made) => setLink({ name, link: made })} />
      {link && (
        <Alert isInline variant="success" title={<>Give this link to <Name text={link.name} />: it is shown once</>}>
          <Command label="the link" text={link.link.url} />
          <Content component="p">A password is set with it, once, until <Time at={link.link.expires} />.</Content>
        </Alert>
      )}
      <SearchInput className="om-gap" aria-label="Search users" placeholder="Search" value={search} onChange={(_, v) => { setSearch(v.slice(0, 200)); setTrail([]); }} onClear={() => setSearch('')} />
      <Loaded query={query}>
        {(page) => page.items.length === 0 ? <Nothing title="No users">Make one for each person. The master’s own admin token goes on working.</Nothing> : (
          <>
            <Table aria-label="Users" variant="compact">
              <Thead><Tr><Th>Name</Th><Th>Roles</Th><Th>Signs in with</Th><Th>Last</Th><Th screenReaderText="Actions" /></Tr></Thead>
              <Tbody>
                {page.items.map((u) => (
                  <Tr key={u.id}>
                    <Td dataLabel="Name"><Name text={u.name} /> {u.disabled && <Label isCompact status="warning">Shut out</Label>}{u.email && <div className="om-quiet"><Name text={u.email} /></div>}</Td>
                    <Td dataLabel="Roles">{Object.entries(u.roles).map(([p, r]) => <div key={p}>{shown(r, 20)} {p === '*' ? 'everywhere' : <>of <Name text={p} most={30} /></>}</div>)}</Td>
                    <Td dataLabel="Signs in with">{[u.password && 'password', u.subject && 'OpenID Connect'].filter(Boolean).join(', ') || 'nothing yet'}</Td>
                    <Td dataLabel="Last"><Ago at={u.last_login} /></Td>
                    <Td>
                      <div className="om-actions">
                        <Button variant="link" isInline onClick={() => relink.start(u)} aria-label={`New link for ${shown(u.name, 40)}`}>New link</Button>
                        <Button variant="link" isInline onClick={() => able.start(u)} aria-label={`${u.disabled ? 'Let in' : 'Shut out'} ${shown(u.name, 40)}`}>{u.disabled ? 'Let in' : 'Shut out'}</Button>
                        <Button variant="link" isInline onClick={() => end.start(u)} aria-label={`End sessions of ${shown(u.name, 40)}`}>End sessions</Button>
                        <Button variant="link" isInline isDanger onClick={() => setAsking(u)} aria-label={`Remove ${shown(u.name, 40)}`}>Remove…</Button>
                      </div>
                    </Td>
                  </Tr>
                ))}
              </Tbody>
            </Table>
            <Pager trail={trail} next={page.next_cursor} total={page.total} what={page.total === 1 ? 'user' : 'users'} go={setTrail} />
          </>
        )}
      </Loaded>
      {asking && (
        <Confirm title="Remove this user?" label="Remove the user" danger name={asking.name} close={() => setAsking(undefined)} act={async () => {
          await client.DELETE('/api/v1/users/{user}', { params: match(asking) });
          done('The user was removed');
          void queries.invalidateQueries();
        }}>
          <Content component="p"><strong>What is lost:</strong> the account, its sessions, and its API tokens: whatever uses one of them is shut out at once. What it did stays in the audit log.</Content>
        </Confirm>
      )}
    </>
  );
}
