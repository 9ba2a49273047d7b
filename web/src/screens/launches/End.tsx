import { useState } from 'react';
import { Button, Content } from '@patternfly/react-core';
import { client, queries } from '../../api/client';
import type { LaunchInfo } from '../../api/generated/schema';
import { isOver } from '../../app/launches';
import { useRole } from '../../app/role';
import { Confirm } from '../../parts/Confirm';
import { done } from '../../parts/toasts';

/** End reverts or finalizes a launch, and says before what will happen. */
export function End({ l }: { l: LaunchInfo }) {
  const role = useRole();
  const [asking, setAsking] = useState<'revert' | 'finalize'>();
  const close = () => setAsking(undefined);
  if (!role.may('operator') || (isOver(l.state) && !(l.state === 'failed' && l.instance))) return null;
  const params = { path: { launch: l.id } };
  const live = l.kind === 'cutover' && l.state === 'running';
  const busy = l.state === 'reverting' || l.state === 'cleaning';
  return (
    <>
      {live && <Button onClick={() => setAsking('finalize')}>Finalize…</Button>}
      <Button variant={live ? 'secondary' : 'primary'} isDanger={live} isDisabled={busy} onClick={() => setAsking('revert')}>
        {l.kind === 'test' ? 'End the test…' : 'Revert…'}
      </Button>
      {asking === 'revert' && (
        <Confirm title={l.kind === 'test' ? 'End this test?' : 'Revert this cutover?'} danger={l.kind === 'cutover'} label={l.kind === 'test' ? 'End the test' : 'Revert'}
          name={l.kind === 'cutover' ? l.machine_name : undefined} close={close} act={async () => {
            await client.POST('/api/v1/launches/{launch}/revert', { params });
            done('It is being taken back');
            void queries.invalidateQueries();
          }}>
          {l.kind === 'test' ? (
            <Content component="p">The copy is stopped, and everything that was made for it at {l.provider} is removed. <strong>What is lost:</strong> whatever was written
              in the copy. The source and its restpoints are not touched.</Content>
          ) : (
            <>
              <Content component="p">This takes the machine back:</Content>
              <Content component="ol">
                <li>The copy at {l.provider} is stopped, and its volumes are removed.</li>
                <li>{live ? 'The source is thawed and its services are started; if it was powered off, start it yourself.' : 'The source is thawed and goes on serving.'}</li>
                <li>Its replication goes on, and it can be tested and cut over again.</li>
              </Content>
              {live && <Content component="p"><strong>What is lost:</strong> everything that was written at the target since it went live.</Content>}
            </>
          )}
        </Confirm>
      )}
      {asking === 'finalize' && (
        <Confirm title="Finalize this cutover?" danger label="Finalize" name={l.machine_name} close={close} act={async () => {
          await client.POST('/api/v1/launches/{launch}/finalize', { params });
          done('It is final');
          void queries.invalidateQueries();
        }}>
          <Content component="p">The copy at {l.provider} is the machine from now on, and OpenMigrate lets go of it: it is not stopped and not removed by anything here.</Content>
          <Content component="p"><strong>What is lost:</strong> the way back. After this the cutover cannot be reverted, and the source is not replicated any more. Its restpoints
            stay until they are removed.</Content>
        </Confirm>
      )}
    </>
  );
}
