import { useEffect, useState } from 'react';
import { Button, Checkbox, MenuToggle, SearchInput, Select, SelectList, SelectOption, Toolbar, ToolbarContent, ToolbarFilter, ToolbarItem } from '@patternfly/react-core';
import { narrowed, type MachineSearch } from '../../app/machinesearch';
import { words } from '../../format/text';
import { Views } from './Views';

const replication = ['enrolled', 'initial-sync', 'protected', 'lagging', 'stalled', 'rescanning', 'paused', 'disconnected', 'held'];
const life = ['not-ready', 'ready-to-test', 'testing', 'ready-for-cutover', 'cutting-over', 'live', 'finalized', 'rolled-back'];

/** Typing is over when no key came for that long, in ms. */
const typing = 250;

interface Props {
  search: MachineSearch;
  change: (to: MachineSearch) => void;
}

/** Filters narrow the list of machines. */
export function Filters({ search, change }: Props) {
  const set = (part: Partial<MachineSearch>) => change({ ...search, ...part });
  return (
    <Toolbar clearAllFilters={() => change({ sort: search.sort })} clearFiltersButtonText="Show all" aria-label="Search machines">
      <ToolbarContent>
        <ToolbarItem><Text label="Search name, id, system, group or tag" value={search.search} set={(v) => set({ search: v })} /></ToolbarItem>
        <States title="Replication" states={replication} chosen={search.replication} set={(v) => set({ replication: v })} />
        <States title="Life" states={life} chosen={search.life} set={(v) => set({ life: v })} />
        <ToolbarItem><Text label="System" value={search.os} set={(v) => set({ os: v })} /></ToolbarItem>
        <ToolbarItem><Text label="Group" value={search.group?.join(' ')} set={(v) => set({ group: split(v) })} /></ToolbarItem>
        <ToolbarItem><Text label="Tags" value={search.tag?.join(' ')} set={(v) => set({ tag: split(v) })} /></ToolbarItem>
        <ToolbarItem alignSelf="center">
          <Checkbox id="attention" label="Needs attention" isChecked={search.attention ?? false} onChange={(_, on) => set({ attention: on || undefined })} />
        </ToolbarItem>
        <ToolbarItem><Views search={search} change={change} /></ToolbarItem>
        {narrowed(search) && (
          <ToolbarItem><Button variant="link" onClick={() => change({ sort: search.sort })}>Show all</Button></ToolbarItem>
        )}
      </ToolbarContent>
    </Toolbar>
  );
}

const split = (text: string | undefined) => text?.split(/[\s,]+/).filter(Boolean);

/** Text searches when typing has stopped. */
function Text({ label, value, set }: { label: string; value: string | undefined; set: (v: string | undefined) => void }) {
  const [typed, setTyped] = useState(value ?? '');
  const [known, setKnown] = useState(value);
  if (known !== value) { // it was set by something else: a saved view, the way back
    setKnown(value);
    setTyped(value ?? '');
  }
  useEffect(() => {
    if (typed === (value ?? '')) return;
    const timer = setTimeout(() => {
      const v = typed.slice(0, 256) || undefined;
      setKnown(v);
      set(v);
    }, typing);
    return () => clearTimeout(timer);
    // Only what is typed starts the clock: value and set change with every answer.
  }, [typed]);
  return <SearchInput aria-label={label} placeholder={label.split(' ')[0]} value={typed} onChange={(_, v) => setTyped(v)} onClear={() => setTyped('')} />;
}

function States({ title, states, chosen = [], set }: { title: string; states: string[]; chosen?: string[]; set: (v: string[] | undefined) => void }) {
  const [open, setOpen] = useState(false);
  const toggle = (state: string) => {
    const next = chosen.includes(state) ? chosen.filter((s) => s !== state) : [...chosen, state];
    set(next.length > 0 ? next : undefined);
  };
  return (
    <ToolbarFilter labels={chosen.map((s) => ({ key: s, node: words(s) }))} categoryName={title} deleteLabel={(_, l) => toggle(typeof l === 'string' ? l : l.key)}
      deleteLabelGroup={() => set(undefined)}>
      <Select isOpen={open} onOpenChange={setOpen} selected={chosen} onSelect={(_, v) => toggle(String(v))}
        toggle={(ref) => <MenuToggle ref={ref} isExpanded={open} onClick={() => setOpen(!open)}>{title}</MenuToggle>}>
        <SelectList aria-label={title}>
          {states.map((s) => (
            <SelectOption key={s} value={s} hasCheckbox isSelected={chosen.includes(s)}>{words(s)}</SelectOption>
          ))}
        </SelectList>
      </Select>
    </ToolbarFilter>
  );
}
