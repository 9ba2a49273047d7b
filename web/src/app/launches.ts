import type { LaunchInfo, LaunchStep } from '../api/generated/schema';
import { bytes, count } from '../format/amount';
import { isSet } from '../format/time';

/** sizeOf is what a launch takes up at its provider, as far as its template says. The provider decides what that costs. */
export function sizeOf(l: Pick<LaunchInfo, 'template' | 'volumes'>): string {
  const t = l.template;
  return [
    t.type || [t.cpus ? count(t.cpus, 'CPU') : '', t.memory ? bytes(t.memory) : ''].filter(Boolean).join(', '),
    l.volumes && l.volumes.length > 0 ? count(l.volumes.length, 'volume') : '',
  ].filter(Boolean).join(', ');
}

const over = new Set(['reverted', 'failed', 'finalized']);
const moving = new Set(['pending', 'syncing', 'hydrating', 'converting', 'starting', 'checking', 'reverting', 'cleaning']);

export const isOver = (state: string) => over.has(state);
export const isMoving = (state: string) => moving.has(state);

/** StepView is one step of a launch, past, present or to come. */
export interface StepView {
  name: string;
  state: 'done' | 'now' | 'failed' | 'to-come';
  /** Seconds that it took, or takes so far. */
  took?: number;
  step?: LaunchStep;
}

const order = ['pending', 'syncing', 'hydrating', 'converting', 'starting', 'checking', 'running'];

/** stepsOf are the steps that a launch went through and, while it comes up, those that are to come. */
export function stepsOf(l: Pick<LaunchInfo, 'kind' | 'restpoint' | 'state' | 'steps' | 'failure' | 'template'>, now: Date): StepView[] {
  const gone: StepView[] = l.steps.map((step, i) => {
    const end = isSet(step.ended) ? Date.parse(step.ended) : now.getTime();
    const last = i === l.steps.length - 1;
    const arrived = step.name === 'running' || isOver(step.name);
    const state = l.failure && step.name === l.failure.step ? 'failed' : isSet(step.ended) || (last && arrived) ? 'done' : 'now';
    return { name: step.name, state, took: arrived ? undefined : Math.max(0, (end - Date.parse(step.started)) / 1000), step };
  });
  const at = order.indexOf(l.state);
  if (at < 0) return gone;
  const syncs = l.kind === 'cutover';
  const coming = order.slice(at + 1).filter((name) => (name !== 'syncing' || syncs) && (name !== 'converting' || !l.template.as_is));
  return [...gone, ...coming.map((name): StepView => ({ name, state: 'to-come' }))];
}
