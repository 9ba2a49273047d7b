import { useState } from 'react';
import { Button, Stack, StackItem, Tab, Tabs, TabTitleText } from '@patternfly/react-core';
import { Link, useParams } from '@tanstack/react-router';
import { api } from '../api/client';
import type { MachineInfo } from '../api/generated/schema';
import { shown } from '../format/text';
import { Waiting } from '../parts/Loaded';
import { Name } from '../parts/Name';
import { ProblemAlert } from '../parts/ProblemAlert';
import { Screen } from '../parts/Screen';
import { Disks } from './machine/Disks';
import { Events } from './machine/Events';
import { Figures } from './machine/Figures';
import { Life } from './machine/Life';
import { MachineLaunches } from './machine/MachineLaunches';
import { MachineSettings } from './machine/MachineSettings';
import { Replication } from './machine/Replication';

const trail = [{ to: '/machines', label: 'Machines' }];

/** Machine is everything about one source server. */
export function Machine() {
  const { machine } = useParams({ strict: false }) as { machine: string };
  const query = api.useQuery('get', '/api/v1/machines/{machine}', { params: { path: { machine } } });
  if (!query.data) {
    return (
      <Screen title="Machine" trail={trail}>
        {query.error != null ? <ProblemAlert error={query.error} retry={() => void query.refetch()} /> : <Waiting />}
      </Screen>
    );
  }
  return <Shown m={query.data} error={query.error} />;
}

function Shown({ m, error }: { m: MachineInfo; error: unknown }) {
  const [tab, setTab] = useState<string | number>('disks');
  const params = { machine: m.id };
  const actions = (
    <>
      <Button variant="secondary" component={(props) => <Link {...props} to="/machines/$machine/restpoints" params={params} />}>Restpoints</Button>
      <Button variant="secondary" component={(props) => <Link {...props} to="/machines/$machine/launch-template" params={params} />}>Launch template</Button>
    </>
  );
  return (
    <Screen title={shown(m.name, 60)} heading={<Name text={m.name} most={100} />} trail={trail} actions={actions}>
      <Stack hasGutter>
        {error != null && <StackItem><ProblemAlert error={error} /></StackItem>}
        <StackItem><Life m={m} /></StackItem>
        <StackItem><Figures m={m} /></StackItem>
        <StackItem>
          <Tabs activeKey={tab} onSelect={(_, key) => setTab(key)} aria-label="About this machine" mountOnEnter unmountOnExit>
            <Tab eventKey="disks" title={<TabTitleText>Disks</TabTitleText>}><Disks m={m} /></Tab>
            <Tab eventKey="replication" title={<TabTitleText>Replication</TabTitleText>}><Replication m={m} /></Tab>
            <Tab eventKey="launches" title={<TabTitleText>Launches</TabTitleText>}><MachineLaunches m={m} /></Tab>
            <Tab eventKey="events" title={<TabTitleText>Events</TabTitleText>}><Events m={m} /></Tab>
            <Tab eventKey="settings" title={<TabTitleText>Settings</TabTitleText>}><MachineSettings key={m.revision} m={m} /></Tab>
          </Tabs>
        </StackItem>
      </Stack>
    </Screen>
  );
}
