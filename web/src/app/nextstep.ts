import type { MachineInfo } from '../api/generated/schema';

/** NextStep is the one thing to do about a machine now. */
export interface NextStep {
  action: 'unfreeze' | 'resume' | 'sync' | 'test' | 'cutover' | 'see-launch' | 'none' | 'look';
  label: string;
  /** In words, as the master says it. */
  why: string;
}

/** nextStep chooses: what keeps a machine from being copied comes before what is next on its way. */
export function nextStep(m: Pick<MachineInfo, 'replication' | 'life' | 'reason' | 'next_step' | 'life_step' | 'frozen' | 'paused' | 'revoked' | 'last_restpoint'>): NextStep {
  const trouble = m.reason ?? m.next_step;
  const settled = m.life === 'live' || m.life === 'finalized';
  if (m.frozen) return { action: 'unfreeze', label: 'Unfreeze', why: m.frozen };
  if (m.revoked && !settled) return { action: 'look', label: 'See what to do', why: trouble };
  if (m.life === 'cutting-over') return { action: 'see-launch', label: 'Follow the cutover', why: 'The machine is being moved.' };
  if (m.life === 'live') return { action: 'see-launch', label: 'Finalize or revert', why: 'It runs at the target. The source is kept until this is final.' };
  if (m.life === 'finalized') return { action: 'none', label: 'Done', why: 'It has moved for good.' };
  if (m.paused) return { action: 'resume', label: 'Resume', why: 'Nothing is copied while it is paused.' };
  if (m.replication === 'disconnected') return { action: 'look', label: 'See what to do', why: trouble };
  if (m.life === 'testing') return { action: 'see-launch', label: 'See the test', why: 'A copy of it runs. Look at it, then end the test.' };
  if (!m.last_restpoint) {
    const copying = m.replication === 'initial-sync' || m.replication === 'rescanning';
    return copying
      ? { action: 'look', label: 'Watch the first copy', why: 'Its disks are being copied for the first time.' }
      : { action: 'sync', label: 'Copy now', why: trouble };
  }
  if (m.replication === 'stalled') return { action: 'look', label: 'See what to do', why: trouble };
  if (m.life === 'ready-for-cutover') return { action: 'cutover', label: 'Cut over', why: 'A test of it came up.' };
  if (m.life === 'rolled-back') return { action: 'test', label: 'Launch a test', why: 'It was taken back. Find out what was wrong, then test again.' };
  if (m.life === 'ready-to-test') {
    const failed = /last test failed/.test(m.life_step);
    return { action: 'test', label: 'Launch a test', why: failed ? 'Its last test failed.' : 'It has a restpoint. A test leaves the source alone.' };
  }
  return { action: 'none', label: 'Nothing to do', why: trouble };
}

/** stages are a machine's life in its order; the way back leads to an earlier one. */
export const stages = ['not-ready', 'ready-to-test', 'testing', 'ready-for-cutover', 'cutting-over', 'live', 'finalized'] as const;

/** stageOf is where on that way a machine is. */
export function stageOf(life: string): number {
  return life === 'rolled-back' ? stages.indexOf('ready-to-test') : stages.indexOf(life as (typeof stages)[number]);
}
