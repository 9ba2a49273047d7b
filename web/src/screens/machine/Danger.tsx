import { useState } from 'react';
import { Button, Card, CardBody, CardTitle, Content, Stack, StackItem } from '@patternfly/react-core';
import { useNavigate } from '@tanstack/react-router';
import type { MachineInfo } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { pause, remove, resumeMachine, revoke, syncNow } from '../../app/machineacts';
import { useRole } from '../../app/role';
import { count } from '../../format/amount';
import { Confirm } from '../../parts/Confirm';
import { done } from '../../parts/toasts';
import { queries } from '../../api/client';

/** Danger is what stops a machine's replication, or ends it. */
export function Danger({ m }: { m: MachineInfo }) {
  const role = useRole();
  const navigate = useNavigate();
  const [asking, setAsking] = useState<'revoke' | 'remove'>();
  const hold = useAct(() => (m.paused ? resumeMachine(m) : pause(m)), { done: m.paused ? 'Replication goes on' : 'It was paused', failed: 'It was not changed' });
  const sync = useAct(() => syncNow(m), { done: 'A copy was asked for', failed: 'No copy was asked for' });
  return (
    <Card>
      <CardTitle component="h3">Do something</CardTitle>
      <CardBody>
        <Stack hasGutter>
          <StackItem><Button variant="secondary" isLoading={sync.busy} onClick={() => sync.start()}>Copy now</Button></StackItem>
          <StackItem>
            <Content component="p">{m.paused ? 'It is paused: nothing is copied.' : 'A pause stops copying. Its restpoints stay.'}</Content>
            <Button variant="secondary" isLoading={hold.busy} onClick={() => hold.start()}>{m.paused ? 'Resume' : 'Pause'}</Button>
          </StackItem>
          {role.may('admin') && (
            <>
              <StackItem>
                <Content component="p">Shutting its agent out ends copying for ever: to go on it must enrol again, as another machine. Its restpoints stay.</Content>
                <Button variant="secondary" isDanger isDisabled={m.revoked} onClick={() => setAsking('revoke')}>Shut its agent out…</Button>
              </StackItem>
              <StackItem>
                <Content component="p">Removing it deletes its restpoints too.</Content>
                <Button variant="danger" onClick={() => setAsking('remove')}>Remove…</Button>
              </StackItem>
            </>
          )}
        </Stack>
      </CardBody>
      {asking === 'revoke' && (
        <Confirm title="Shut its agent out?" label="Shut it out" danger name={m.name} close={() => setAsking(undefined)} act={async () => {
          await revoke(m);
          done('Its agent was shut out');
          void queries.invalidateQueries();
        }}>
          <Content component="p">Its certificate is refused from now on, for ever. Its restpoints stay and can be launched.</Content>
        </Confirm>
      )}
      {asking === 'remove' && (
        <Confirm title="Remove this machine?" label="Remove it and its restpoints" danger name={m.name} close={() => setAsking(undefined)} act={async () => {
          await remove(m);
          done('The machine was removed');
          await navigate({ to: '/machines' });
          void queries.invalidateQueries();
        }}>
          <Content component="p"><strong>What is lost:</strong> all restpoints of this machine ({count(m.restpoints, 'restpoint was', 'restpoints were')} made so far), for good, and its
            settings. Its agent is shut out. Copies that were launched and finalized stay.</Content>
        </Confirm>
      )}
    </Card>
  );
}
