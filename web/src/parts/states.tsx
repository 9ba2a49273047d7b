import { Label } from '@patternfly/react-core';
import { words } from '../format/text';

type Status = 'success' | 'warning' | 'danger' | 'info' | undefined;

const replication: Record<string, Status> = {
  protected: 'success', lagging: 'warning', stalled: 'danger', disconnected: 'danger', held: 'info', 'initial-sync': 'info', rescanning: 'info',
};
const life: Record<string, Status> = {
  testing: 'info', 'ready-for-cutover': 'success', 'cutting-over': 'info', live: 'success', finalized: 'success', 'rolled-back': 'warning',
};
const launch: Record<string, Status> = {
  running: 'success', finalized: 'success', failed: 'danger', cleaning: 'danger', reverting: 'warning', pending: 'info', syncing: 'info', hydrating: 'info',
  converting: 'info', starting: 'info', checking: 'info',
};
const consistency: Record<string, Status> = { application: 'success', filesystem: 'success', crash: 'info', fuzzy: 'warning' };
const operation: Record<string, Status> = { running: 'info', done: 'success', failed: 'danger', cancelled: 'warning', open: 'info', committing: 'info', expired: 'warning' };
const standing: Record<string, Status> = { making: 'info', current: 'success', behind: 'info', applying: 'info', 'in-use': 'info', resting: undefined, releasing: 'warning' };
const node: Record<string, Status> = { running: 'success', away: 'warning', frozen: 'danger', revoked: undefined };

function State({ of, state }: { of: Record<string, Status>; state: string }) {
  const status = of[state];
  return status ? (
    <Label status={status} isCompact>{words(state)}</Label>
  ) : (
    <Label color="grey" isCompact>{words(state)}</Label>
  );
}

export const ReplicationState = ({ state }: { state: string }) => <State of={replication} state={state} />;
export const LifeState = ({ state }: { state: string }) => <State of={life} state={state} />;
export const LaunchState = ({ state }: { state: string }) => <State of={launch} state={state} />;
export const Consistency = ({ state }: { state: string }) => <State of={consistency} state={state} />;
export const OperationState = ({ state }: { state: string }) => <State of={operation} state={state} />;
export const StandingState = ({ state }: { state: string }) => <State of={standing} state={state} />;
export const NodeState = ({ state }: { state: string }) => <State of={node} state={state} />;

/** What each consistency means, for those who choose and those who trust. */
export const consistencyMeans: Record<string, string> = {
  fuzzy: 'Read while it was written: parts are of different moments.',
  crash: 'One instant, as after a power cut.',
  filesystem: 'All file systems were frozen at that instant.',
  application: 'The machine’s own hooks ran and succeeded before the freeze.',
};
