/** MachineSearch is what a list of machines is narrowed to and sorted by. It is in the address, so that it can be kept and sent. */
export interface MachineSearch {
  search?: string;
  replication?: string[];
  life?: string[];
  os?: string;
  group?: string[];
  tag?: string[];
  attention?: boolean;
  sort?: Sort;
}

export const sorts = ['name', 'rpo', 'lag', 'backlog', 'created', 'last_seen', 'replication', 'life', 'group'] as const;
export type SortField = (typeof sorts)[number];
export type Sort = SortField | `-${SortField}`;

const text = (v: unknown) => (typeof v === 'string' || typeof v === 'number' ? String(v).slice(0, 256) : '') || undefined;
const texts = (v: unknown) => {
  const list = (Array.isArray(v) ? v : [v]).map(text).filter((s): s is string => s !== undefined).slice(0, 16);
  return list.length > 0 ? list : undefined;
};

/** machineSearch reads it from an address, which anybody may have written. What is empty is left out. */
export function machineSearch(raw: Record<string, unknown>): MachineSearch {
  const sort = text(raw['sort']);
  const search: MachineSearch = {
    search: text(raw['search']),
    replication: texts(raw['replication']),
    life: texts(raw['life']),
    os: text(raw['os']),
    group: texts(raw['group']),
    tag: texts(raw['tag']),
    attention: raw['attention'] === true || raw['attention'] === 'true' ? true : undefined,
    sort: sorts.some((s) => sort === s || sort === `-${s}`) && sort !== 'name' ? (sort as Sort) : undefined,
  };
  return Object.fromEntries(Object.entries(search).filter(([, v]) => v !== undefined)) as MachineSearch;
}

/** narrowed reports whether anything is left out. */
export function narrowed(s: MachineSearch): boolean {
  return Object.keys(s).some((k) => k !== 'sort');
}
