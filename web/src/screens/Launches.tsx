import { useState } from 'react';
import { Content, FormSelect, FormSelectOption, Toolbar, ToolbarContent, ToolbarItem } from '@patternfly/react-core';
import { Link } from '@tanstack/react-router';
import { keepPreviousData } from '@tanstack/react-query';
import { api } from '../api/client';
import { Loaded } from '../parts/Loaded';
import { Nothing } from '../parts/Nothing';
import { Pager, type Trail } from '../parts/Pager';
import { Screen } from '../parts/Screen';
import { LaunchTable } from './launches/LaunchTable';
import { Standing } from './launches/Standing';

/** Launches are the copies that run now, and what was launched before. */
export function Launches() {
  return (
    <Screen title="Launches" text="A test brings a copy of a machine up and leaves the source alone; a cutover moves the machine.">
      <Content component="h2">Running now</Content>
      <Listed active label="Launches that run now" />
      <Content component="h2">Standing volumes</Content>
      <Standing />
      <Content component="h2">All</Content>
      <Listed label="All launches" />
    </Screen>
  );
}

function Listed({ active, label }: { active?: boolean; label: string }) {
  const [trail, setTrail] = useState<Trail>([]);
  const [kind, setKind] = useState('');
  const query = api.useQuery('get', '/api/v1/launches', {
    params: { query: { limit: 50, cursor: trail.at(-1), active, kind: kind ? [kind] : undefined } },
  }, { placeholderData: keepPreviousData });
  return (
    <>
      {!active && (
        <Toolbar aria-label="Narrow the launches">
          <ToolbarContent>
            <ToolbarItem>
              <FormSelect aria-label="Kind" value={kind} onChange={(_, v) => { setKind(v); setTrail([]); }}>
                <FormSelectOption value="" label="Tests and cutovers" />
                <FormSelectOption value="test" label="Tests" />
                <FormSelectOption value="cutover" label="Cutovers" />
              </FormSelect>
            </ToolbarItem>
          </ToolbarContent>
        </Toolbar>
      )}
      <Loaded query={query}>
        {(page) => page.total === 0 ? (
          <Nothing title={active ? 'No copy runs' : 'Nothing was launched yet'} action={<Link to="/machines" search={{ life: ['ready-to-test'] }}>Machines that are ready to test</Link>}>
            {active ? 'Nothing runs up costs at a provider.' : 'Choose a machine and launch a test of it.'}
          </Nothing>
        ) : (
          <>
            <LaunchTable launches={page.items} label={label} />
            <Pager trail={trail} next={page.next_cursor} total={page.total} what={page.total === 1 ? 'launch' : 'launches'} go={setTrail} />
          </>
        )}
      </Loaded>
    </>
  );
}
