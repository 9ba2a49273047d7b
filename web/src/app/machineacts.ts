import { client } from '../api/client';
import type { MachineChange, MachineInfo } from '../api/generated/schema';

type Ref = Pick<MachineInfo, 'id' | 'revision'>;

const of = (m: Ref) => ({ path: { machine: m.id } });

/** What can be done to a machine. Each is refused if the machine was changed by somebody else since it was shown. */
export const pause = (m: Ref) => client.POST('/api/v1/machines/{machine}/pause', { params: { ...of(m), header: match(m) } });
export const resumeMachine = (m: Ref) => client.POST('/api/v1/machines/{machine}/resume', { params: { ...of(m), header: match(m) } });
export const unfreeze = (m: Ref) => client.POST('/api/v1/machines/{machine}/unfreeze', { params: { ...of(m), header: match(m) } });
export const revoke = (m: Ref) => client.POST('/api/v1/machines/{machine}/revoke', { params: { ...of(m), header: match(m) } });
export const remove = (m: Ref) => client.DELETE('/api/v1/machines/{machine}', { params: { ...of(m), header: match(m) } });
export const syncNow = (m: Ref) => client.POST('/api/v1/machines/{machine}/sync', { params: of(m) });

function match(m: Ref) {
  return { 'If-Match': `"${m.revision}"` };
}

/** change changes settings of a machine as it was shown. */
export async function change(m: Ref, body: MachineChange): Promise<MachineInfo> {
  const { data } = await client.PATCH('/api/v1/machines/{machine}', { params: { ...of(m), header: match(m) }, body });
  return data!;
}

/** launch brings a copy of a machine up, of its newest restpoint or of a certain one. */
export async function launch(kind: 'test' | 'cutover', machine: string, more: { restpoint?: string; stop_source?: boolean } = {}) {
  const { data } = await client.POST('/api/v1/launches', { body: { kind, machine, ...more } });
  return data!;
}
