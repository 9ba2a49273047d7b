import { useState } from 'react';
import { Alert, Button, Content, DescriptionList, Stack, StackItem } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { useNavigate, useParams } from '@tanstack/react-router';
import { api, client, queries } from '../api/client';
import type { RestpointInfo } from '../api/generated/schema';
import { useAct } from '../app/act';
import { useRole } from '../app/role';
import { bytes } from '../format/amount';
import { isSet } from '../format/time';
import { Confirm } from '../parts/Confirm';
import { Loaded } from '../parts/Loaded';
import { Name } from '../parts/Name';
import { Screen } from '../parts/Screen';
import { Consistency, consistencyMeans } from '../parts/states';
import { Time } from '../parts/Time';
import { done } from '../parts/toasts';
import { Figure } from './machine/Figures';
import { Rollback, TestLaunch } from './machine/NextStepButton';
import { Files } from './restpoint/Files';
import { Verifications } from './restpoint/Verifications';

/** Restpoint is one point in time of a machine: what is in it, and what can be done with it. */
export function Restpoint() {
  const { restpoint } = useParams({ strict: false }) as { restpoint: string };
  const query = api.useQuery('get', '/api/v1/restpoints/{restpoint}', { params: { path: { restpoint } } });
  const machine = query.data?.machine;
  const of = api.useQuery('get', '/api/v1/machines/{machine}', { params: { path: { machine: machine ?? '' } } }, { enabled: !!machine });
  const name = of.data?.name ?? machine ?? '';
  return (
    <Screen title={query.data ? `Restpoint ${query.data.sequence}` : 'Restpoint'}
      trail={[{ to: '/machines', label: 'Machines' }, ...(machine ? [{ to: `/machines/${machine}`, label: <Name text={name} /> }, { to: `/machines/${machine}/restpoints`, label: 'Restpoints' }] : [])]}>
      <Loaded query={query}>{(r) => <Shown r={r} name={name} />}</Loaded>
    </Screen>
  );
}

function Shown({ r, name }: { r: RestpointInfo; name: string }) {
  return (
    <Stack hasGutter>
      {r.state === 'damaged' && (
        <StackItem>
          <Alert isInline variant="danger" title="It is damaged">
            Something that it needs cannot be read from staging. What is left can still be browsed. Choose another restpoint to launch, and look under Nodes and staging:
            a check says what is missing, and the machine’s next cycle sends again what it still has.
          </Alert>
        </StackItem>
      )}
      <StackItem><Actions r={r} name={name} /></StackItem>
      <StackItem>
        <DescriptionList isCompact columnModifier={{ default: '1Col', md: '2Col', xl: '3Col' }}>
          <Figure term="Of"><Time at={isSet(r.instant) ? r.instant : r.created} /></Figure>
          <Figure term="Listed"><Time at={r.listed} /></Figure>
          <Figure term="Consistency"><Consistency state={r.consistency} /> {consistencyMeans[r.consistency]}</Figure>
          <Figure term="Verified"><Time at={r.verified} none="not yet: verify it to know that every byte can be read" /></Figure>
          <Figure term="Kept">{r.pinned ? 'pinned: it is never removed by retention' : 'as long as retention keeps it'}</Figure>
          <Figure term="Change">{bytes(r.stats.sent)} changed, {bytes(r.stats.known)} known already, {bytes(r.stats.stored)} put into staging</Figure>
        </DescriptionList>
      </StackItem>
      <StackItem>
        <Content component="h2">Disks</Content>
        <Table aria-label="Disks" variant="compact">
          <Thead><Tr><Th>Number</Th><Th>Disk</Th><Th>Size</Th><Th>Changed</Th><Th>Consistency</Th><Th>Tracker</Th></Tr></Thead>
          <Tbody>
            {r.disks.map((d) => (
              <Tr key={d.number}>
                <Td dataLabel="Number">{d.number}</Td>
                <Td dataLabel="Disk"><Name text={d.name} /></Td>
                <Td dataLabel="Size" className="om-number">{bytes(d.size)}</Td>
                <Td dataLabel="Changed" className="om-number">{bytes(d.changed)}</Td>
                <Td dataLabel="Consistency"><Consistency state={d.consistency} /></Td>
                <Td dataLabel="Tracker">{d.tracker}</Td>
              </Tr>
            ))}
          </Tbody>
        </Table>
      </StackItem>
      <StackItem><Verifications restpoint={r.id} /></StackItem>
      <StackItem><Files r={r} /></StackItem>
    </Stack>
  );
}

function Actions({ r, name }: { r: RestpointInfo; name: string }) {
  const role = useRole();
  const navigate = useNavigate();
  const [asking, setAsking] = useState<'test' | 'rollback' | 'remove'>();
  const params = { path: { restpoint: r.id } };
  const pin = useAct(() => (r.pinned ? client.DELETE('/api/v1/restpoints/{restpoint}/pin', { params }) : client.PUT('/api/v1/restpoints/{restpoint}/pin', { params })),
    { done: r.pinned ? 'It may be removed again' : 'It is kept', failed: 'It was not changed' });
  const verify = useAct(() => client.POST('/api/v1/jobs', { body: { kind: 'verify', restpoint: r.id } }), { done: 'A node verifies it', failed: 'No verification was started' });
  const m = { id: r.machine, name };
  const close = () => setAsking(undefined);
  const started = (launch: string) => void navigate({ to: '/launches/$launch', params: { launch } });
  if (!role.may('operator')) return null;
  return (
    <div className="om-actions">
      <Button isDisabled={r.state === 'damaged'} onClick={() => setAsking('test')}>Launch a test…</Button>
      <Button variant="secondary" isDisabled={r.state === 'damaged'} onClick={() => setAsking('rollback')}>Roll back…</Button>
      <Button variant="secondary" isLoading={verify.busy} onClick={() => verify.start()}>Verify</Button>
      <Button variant="secondary" isLoading={pin.busy} onClick={() => pin.start()}>{r.pinned ? 'Unpin' : 'Pin'}</Button>
      <Button variant="secondary" isDanger isDisabled={r.pinned} onClick={() => setAsking('remove')}>Remove…</Button>
      {asking === 'test' && <TestLaunch m={m} restpoint={r.id} close={close} started={started} />}
      {asking === 'rollback' && <Rollback m={m} restpoint={r.id} close={close} started={started} />}
      {asking === 'remove' && (
        <Confirm title="Remove this restpoint?" label="Remove it" danger name={`${r.sequence}`} close={close} act={async () => {
          await client.DELETE('/api/v1/restpoints/{restpoint}', { params });
          done('The restpoint was removed');
          void queries.invalidateQueries();
          await navigate({ to: '/machines/$machine/restpoints', params: { machine: r.machine } });
        }}>
          <Content component="p"><strong>What is lost:</strong> restpoint {r.sequence}, of <Time at={r.created} />, for good. Every other restpoint stays whole.</Content>
        </Confirm>
      )}
    </div>
  );
}
