import { useState } from 'react';
import { Button, Checkbox, FormSelect, FormSelectOption, Toolbar, ToolbarContent, ToolbarItem } from '@patternfly/react-core';
import HistoryIcon from '@patternfly/react-icons/dist/esm/icons/history-icon';
import { Link, useParams } from '@tanstack/react-router';
import { keepPreviousData } from '@tanstack/react-query';
import { api } from '../api/client';
import type { MachineInfo } from '../api/generated/schema';
import { shown, words } from '../format/text';
import { Loaded } from '../parts/Loaded';
import { Name } from '../parts/Name';
import { Nothing } from '../parts/Nothing';
import { Pager, type Trail } from '../parts/Pager';
import { Screen } from '../parts/Screen';
import { consistencyMeans } from '../parts/states';
import { Compare } from './restpoint/Compare';
import { Timeline } from './restpoint/Timeline';

const pageSize = 50;

/** Restpoints is a machine's history. */
export function Restpoints() {
  const { machine } = useParams({ strict: false }) as { machine: string };
  const query = api.useQuery('get', '/api/v1/machines/{machine}', { params: { path: { machine } } });
  const m = query.data;
  return (
    <Screen title={m ? `Restpoints of ${shown(m.name, 60)}` : 'Restpoints'} heading={m && <>Restpoints of <Name text={m.name} /></>}
      trail={[{ to: '/machines', label: 'Machines' }, { to: `/machines/${machine}`, label: m ? <Name text={m.name} /> : 'Machine' }]}
      text="Each is a full image of all disks at one point in time, and stands on its own: any can be launched, and any can be removed.">
      <Loaded query={query}>{(data) => <History m={data} />}</Loaded>
    </Screen>
  );
}

function History({ m }: { m: MachineInfo }) {
  const [trail, setTrail] = useState<Trail>([]);
  const [consistency, setConsistency] = useState('');
  const [pinned, setPinned] = useState(false);
  const [chosen, setChosen] = useState<string[]>([]);
  const query = api.useQuery('get', '/api/v1/machines/{machine}/restpoints', {
    params: { path: { machine: m.id }, query: { limit: pageSize, cursor: trail.at(-1), pinned: pinned || undefined, consistency: consistency ? [consistency] : undefined } },
  }, { placeholderData: keepPreviousData });
  const [from, to] = chosen;
  return (
    <>
      <Toolbar aria-label="Narrow the history">
        <ToolbarContent>
          <ToolbarItem>
            <FormSelect aria-label="Consistency" value={consistency} onChange={(_, v) => { setConsistency(v); setTrail([]); }}>
              <FormSelectOption value="" label="Any consistency" />
              {Object.keys(consistencyMeans).map((c) => <FormSelectOption key={c} value={c} label={words(c)} />)}
            </FormSelect>
          </ToolbarItem>
          <ToolbarItem alignSelf="center"><Checkbox id="pinned" label="Only pinned" isChecked={pinned} onChange={(_, on) => { setPinned(on); setTrail([]); }} /></ToolbarItem>
          <ToolbarItem alignSelf="center">{chosen.length === 0 ? 'Choose two to compare them.' : chosen.length === 1 ? 'Choose one more to compare.' : 'Two are compared.'}</ToolbarItem>
          {chosen.length > 0 && <ToolbarItem><Button variant="link" onClick={() => setChosen([])}>Choose none</Button></ToolbarItem>}
        </ToolbarContent>
      </Toolbar>
      {from && to && <Compare from={from} to={to} />}
      <Loaded query={query}>
        {(page) => page.total === 0 ? (
          <Nothing title={consistency || pinned ? 'No restpoint is like that' : 'No restpoint yet'} icon={HistoryIcon}
            action={<Link to="/machines/$machine" params={{ machine: m.id }}>See what the machine does</Link>}>
            {consistency || pinned ? 'Choose any consistency, and not only pinned ones.' : 'The first comes when its disks have been copied once.'}
          </Nothing>
        ) : (
          <>
            <Timeline m={m} restpoints={page.items} chosen={chosen} choose={setChosen} />
            <Pager trail={trail} next={page.next_cursor} total={page.total} what={page.total === 1 ? 'restpoint' : 'restpoints'} go={setTrail} />
          </>
        )}
      </Loaded>
    </>
  );
}
