import { useState } from 'react';
import { Alert, Button, Card, CardBody, CardTitle, Content, DescriptionList, ExpandableSection, Label, Stack, StackItem } from '@patternfly/react-core';
import { api, client } from '../api/client';
import type { ProviderInfo } from '../api/generated/schema';
import { useAct } from '../app/act';
import { capabilitiesOf, describeType, networksOf, typesOf } from '../app/catalogue';
import { useRole } from '../app/role';
import { bytes, count } from '../format/amount';
import { shown } from '../format/text';
import { Command } from '../parts/Command';
import { Loaded } from '../parts/Loaded';
import { Name } from '../parts/Name';
import { Nothing } from '../parts/Nothing';
import { Operations } from '../parts/Operations';
import { Screen } from '../parts/Screen';
import { Figure } from './machine/Figures';
import { Orphans } from './Orphans';

/** Providers are the places where machines are brought up. */
export function Providers() {
  const query = api.useQuery('get', '/api/v1/providers', { params: { query: { limit: 500 } } }, { refetchInterval: 60_000 });
  return (
    <Screen title="Providers" text="The places where machines are brought up. They are set when the master is started.">
      <Loaded query={query}>
        {(page) => page.items.length === 0 ? (
          <Nothing title="This master has no provider" action={<Command label="a master with a provider" text="openmigrate master --data-dir D --provider qemu" />}>
            Machines are copied, but none can be launched. Start the master with a provider.
          </Nothing>
        ) : (
          <Stack hasGutter>{page.items.map((p) => <StackItem key={p.name}><Provider p={p} /></StackItem>)}</Stack>
        )}
      </Loaded>
    </Screen>
  );
}

function Provider({ p }: { p: ProviderInfo }) {
  const role = useRole();
  const [more, setMore] = useState(false);
  const caps = capabilitiesOf(p);
  const wrong = p.error || caps.unusable;
  const check = useAct(() => client.POST('/api/v1/providers/{provider}/check', { params: { path: { provider: p.name } } }), { failed: 'The check was not started' });
  const notes = [...new Set([...(p.notes ?? []), ...(caps.notes ?? [])])];
  return (
    <Card>
      <CardTitle component="h2"><Name text={p.name} /> <Label isCompact status={wrong ? 'danger' : 'success'}>{wrong ? 'Cannot be used' : 'Ready'}</Label></CardTitle>
      <CardBody>
        {wrong && <Alert isInline variant="danger" title="No machine can be launched here now">{shown(wrong, 600)}</Alert>}
        {notes.map((n) => <Content component="p" key={n}>{shown(n, 400)}</Content>)}
        <DescriptionList isCompact columnModifier={{ default: '1Col', md: '2Col', xl: '3Col' }}>
          <Figure term="Kind">{p.kind}</Figure>
          <Figure term="Zones">{caps.zones?.join(', ') ?? 'one'}</Figure>
          <Figure term="Disks of a machine">{caps.max_disks ?? '–'}, of up to {bytes(caps.max_volume)}</Figure>
          <Figure term="Console, screenshots">{caps.console ? 'console' : 'no console'}, {caps.screenshot ? 'screenshots' : 'no screenshots'}</Figure>
          <Figure term="Catalogue">{count(typesOf(p).length, 'type')}, {count(networksOf(p).length, 'network')}</Figure>
        </DescriptionList>
        <ExpandableSection toggleText={more ? 'Hide the catalogue' : 'Show the catalogue'} isExpanded={more} onToggle={(_, on) => setMore(on)}>
          <Content component="h3">Networks</Content>
          <ul>{networksOf(p).map((n) => <li key={n.id}><Name text={n.name || n.id} />{n.isolated && ', isolated'} {n.help && <span className="om-quiet">{shown(n.help, 200)}</span>}</li>)}</ul>
          <Content component="h3">Types</Content>
          <ul>{typesOf(p).slice(0, 200).map((t) => <li key={t.id}>{shown(describeType(t), 120)}</li>)}</ul>
        </ExpandableSection>
        {role.may('admin') && (
          <>
            <Content component="p" className="om-gap">A check brings small things up and takes them away again, and says what does not work.</Content>
            <Button variant="secondary" isLoading={check.busy} onClick={() => check.start()}>Check it</Button>
            <Orphans provider={p.name} />
          </>
        )}
        <Operations kinds={['provider-check']} target={p.name} />
      </CardBody>
    </Card>
  );
}
