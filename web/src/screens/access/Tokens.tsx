import { useState } from 'react';
import { Alert, Button, Content, Form, FormGroup, FormSelect, FormSelectOption, TextInput } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { keepPreviousData } from '@tanstack/react-query';
import { api, client, queries } from '../../api/client';
import type { TokenInfo } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { goSpan } from '../../format/time';
import { Command } from '../../parts/Command';
import { Confirm } from '../../parts/Confirm';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';
import { Pager, type Trail } from '../../parts/Pager';
import { ProblemAlert } from '../../parts/ProblemAlert';
import { Ago } from '../../parts/Time';
import { done } from '../../parts/toasts';

const day = 86_400;
const terms = [{ days: 1, label: 'A day' }, { days: 30, label: '30 days' }, { days: 90, label: '90 days' }, { days: 365, label: 'A year' }, { days: 0, label: 'No end' }];
const roles = [
  { role: 'viewer', label: 'Viewer: sees everything, changes nothing' },
  { role: 'operator', label: 'Operator: replicates, launches, cuts over' },
  { role: 'admin', label: 'Admin: all of that, and removes, adds and gives access' },
];

/** Tokens are what people and scripts sign in with. */
export function Tokens() {
  const [trail, setTrail] = useState<Trail>([]);
  const [asking, setAsking] = useState<TokenInfo>();
  const query = api.useQuery('get', '/api/v1/tokens', { params: { query: { limit: 50, cursor: trail.at(-1) } } }, { placeholderData: keepPreviousData });
  return (
    <>
      <NewToken />
      <Loaded query={query}>
        {(page) => page.total === 0 ? <Nothing title="No API tokens">Make one for each person and each script, with no more rights than it needs.</Nothing> : (
          <>
            <Table aria-label="API tokens" variant="compact">
              <Thead><Tr><Th>Name</Th><Th>Role</Th><Th>Made</Th><Th>Ends</Th><Th screenReaderText="Actions" /></Tr></Thead>
              <Tbody>
                {page.items.map((t) => (
                  <Tr key={t.id}>
                    <Td dataLabel="Name"><Name text={t.name} /></Td>
                    <Td dataLabel="Role">{t.role}</Td>
                    <Td dataLabel="Made"><Ago at={t.created} /></Td>
                    <Td dataLabel="Ends"><Ago at={t.expires} none="never" /></Td>
                    <Td><Button variant="link" isInline onClick={() => setAsking(t)}>Remove…</Button></Td>
                  </Tr>
                ))}
              </Tbody>
            </Table>
            <Pager trail={trail} next={page.next_cursor} total={page.total} what={page.total === 1 ? 'token' : 'tokens'} go={setTrail} />
          </>
        )}
      </Loaded>
      {asking && (
        <Confirm title="Remove this token?" label="Remove it" danger name={asking.name} close={() => setAsking(undefined)} act={async () => {
          await client.DELETE('/api/v1/tokens/{token}', { params: { path: { token: asking.id } } });
          done('The token is worthless now');
          void queries.invalidateQueries();
        }}>
          <Content component="p">Whoever and whatever uses it is shut out at once. It cannot be had again.</Content>
        </Confirm>
      )}
    </>
  );
}

function NewToken() {
  const [name, setName] = useState('');
  const [role, setRole] = useState('viewer');
  const [days, setDays] = useState(30);
  const [made, setMade] = useState<TokenInfo>();
  const make = useAct(() => client.POST('/api/v1/tokens', { body: { name: name.trim(), role, ...(days > 0 && { valid: goSpan(days * day) }) } }), { failed: 'No token was made' });
  const submit = async () => {
    const { data } = await make.run();
    setMade(data);
    setName('');
  };
  return (
    <Form className="om-gap" isHorizontal isWidthLimited onSubmit={(e) => { e.preventDefault(); void submit().catch(() => undefined); }} aria-label="Make an API token">
      {make.error && <ProblemAlert error={make.error} title="No token was made" />}
      {made?.token && (
        <Alert isInline variant="success" title="Save this token now: it is shown once">
          <Command label="the token" text={made.token} />
        </Alert>
      )}
      <FormGroup label="Name" isRequired fieldId="token-name"><TextInput id="token-name" isRequired value={name} maxLength={200} onChange={(_, v) => setName(v)} /></FormGroup>
      <FormGroup label="Role" fieldId="token-role">
        <FormSelect id="token-role" value={role} onChange={(_, v) => setRole(v)}>{roles.map((r) => <FormSelectOption key={r.role} value={r.role} label={r.label} />)}</FormSelect>
      </FormGroup>
      <FormGroup label="Good for" fieldId="token-days">
        <FormSelect id="token-days" value={days} onChange={(_, v) => setDays(Number(v))}>{terms.map((t) => <FormSelectOption key={t.days} value={t.days} label={t.label} />)}</FormSelect>
      </FormGroup>
      <div><Button type="submit" isDisabled={name.trim() === '' || make.busy} isLoading={make.busy}>Make a token</Button></div>
    </Form>
  );
}
