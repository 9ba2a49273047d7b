import { useState } from 'react';
import { Button, Checkbox, Content } from '@patternfly/react-core';
import { useNavigate } from '@tanstack/react-router';
import { client } from '../../api/client';
import type { MachineInfo } from '../../api/generated/schema';
import { launch, resumeMachine, syncNow, unfreeze } from '../../app/machineacts';
import type { NextStep } from '../../app/nextstep';
import { useAct } from '../../app/act';
import { useRole } from '../../app/role';
import { Confirm } from '../../parts/Confirm';
import { failed } from '../../parts/toasts';

/** NextStepButton does the next step. What cannot be taken back asks first. */
export function NextStepButton({ m, next }: { m: MachineInfo; next: NextStep }) {
  const role = useRole();
  const navigate = useNavigate();
  const [asking, setAsking] = useState<'test' | 'cutover'>();
  const sync = useAct(() => syncNow(m), { done: 'A copy was asked for', failed: 'No copy was asked for' });
  const resume = useAct(() => resumeMachine(m), { done: 'Replication goes on', failed: 'It was not resumed' });
  const thaw = useAct(() => unfreeze(m), { done: 'Its agent may work again', failed: 'It was not unfrozen' });
  const toLaunch = (id: string) => navigate({ to: '/launches/$launch', params: { launch: id } });
  const see = async () => {
    try {
      const { data } = await client.GET('/api/v1/launches', { params: { query: { machine: m.id, active: true, limit: 1 } } });
      const first = data?.items[0];
      await (first ? toLaunch(first.id) : navigate({ to: '/launches' }));
    } catch (error) {
      failed('The launch was not found', error);
    }
  };
  const acts: Record<NextStep['action'], (() => void) | undefined> = {
    sync: () => sync.start(), resume: () => resume.start(), unfreeze: () => thaw.start(), test: () => setAsking('test'), cutover: () => setAsking('cutover'),
    'see-launch': () => void see(), none: undefined, look: undefined,
  };
  const act = acts[next.action];
  if (!act || (next.action !== 'see-launch' && !role.may('operator'))) return null;
  return (
    <>
      <Button size="lg" isLoading={sync.busy || resume.busy || thaw.busy} onClick={act}>{next.label}</Button>
      {asking === 'test' && <TestLaunch m={m} close={() => setAsking(undefined)} started={(id) => void toLaunch(id)} />}
      {asking === 'cutover' && <Cutover m={m} close={() => setAsking(undefined)} started={(id) => void toLaunch(id)} />}
    </>
  );
}

interface Ask {
  m: Pick<MachineInfo, 'id' | 'name'>;
  restpoint?: string;
  close: () => void;
  started: (launch: string) => void;
}

/** TestLaunch asks before a copy is brought up. */
export function TestLaunch({ m, restpoint, close, started }: Ask) {
  return (
    <Confirm title="Launch a test?" label="Launch a test" close={close} act={async () => started((await launch('test', m.id, { restpoint })).id)}>
      <Content component="p">A copy of the machine is brought up from {restpoint ? 'this' : 'its newest'} restpoint, the way its launch template says. The source goes on
        as it is, and is not touched.</Content>
      <Content component="p">The copy costs what the provider asks for it, until it is reverted: by you, or at its deadline.</Content>
    </Confirm>
  );
}

/** Cutover asks before a machine is moved. */
export function Cutover({ m, close, started }: Ask) {
  const [stop, setStop] = useState(false);
  return (
    <Confirm title="Cut over?" label="Cut over" danger name={m.name} close={close} act={async () => started((await launch('cutover', m.id, { stop_source: stop })).id)}>
      <Content component="p">This moves the machine:</Content>
      <Content component="ol">
        <li>The source’s services are stopped by its hooks, and its file systems are frozen. From here on it serves nobody.</li>
        <li>What was written last is copied, and a copy of the machine is brought up at the target.</li>
        <li>When its checks pass, it is live. If anything fails before that, the source goes on serving.</li>
      </Content>
      <Content component="p">Once it is live it can still be reverted: then the source serves again, and what was written at the target is lost.</Content>
      <Checkbox id="stop-source" label="Power the source off when the copy is live (else it stays frozen)" isChecked={stop} onChange={(_, on) => setStop(on)} />
    </Confirm>
  );
}

/** Rollback asks before an older point in time is made the machine. */
export function Rollback({ m, restpoint, close, started }: Ask & { restpoint: string }) {
  return (
    <Confirm title="Roll back to this restpoint?" label="Roll back" danger name={m.name} close={close}
      act={async () => started((await launch('cutover', m.id, { restpoint })).id)}>
      <Content component="p">A copy of the machine is brought up at the target from this restpoint, and becomes the machine. Nothing is synced before: what was written
        after this restpoint is not in it. The source is neither frozen nor stopped: stop it yourself if both must not serve at once.</Content>
      <Content component="p">It can be reverted until it is finalized.</Content>
    </Confirm>
  );
}
