import { Button, Checkbox, Content, DescriptionList, Form, FormGroup, FormHelperText, FormSelect, FormSelectOption, HelperText, HelperTextItem, TextInput } from '@patternfly/react-core';
import { signOut, useSession, useWho } from '../api/session';
import { useAct } from '../app/act';
import { prefer, usePreferences, type Preferences } from '../app/preferences';
import { shown } from '../format/text';
import { Name } from '../parts/Name';
import { Screen } from '../parts/Screen';
import { Time } from '../parts/Time';
import { Password } from './access/Password';
import { Sessions } from './access/Sessions';
import { Figure } from './machine/Figures';

/** Settings are this browser's, and who is signed in. */
export function Settings() {
  const who = useWho();
  const session = useSession();
  const out = useAct(signOut, { failed: 'You were not signed out' });
  const p = usePreferences();
  return (
    <Screen title="Settings" text="These are kept in this browser. Settings of a machine are on its own page; those of the master are given when it is started.">
      <Form isWidthLimited onSubmit={(e) => e.preventDefault()}>
        <FormGroup label="Theme" fieldId="theme">
          <FormSelect id="theme" value={p.theme} onChange={(_, v) => prefer({ theme: v as Preferences['theme'] })}>
            <FormSelectOption value="system" label="As this device" />
            <FormSelectOption value="light" label="Light" />
            <FormSelectOption value="dark" label="Dark" />
          </FormSelect>
        </FormGroup>
        <Checkbox id="utc" label="Show times in UTC instead of this device’s zone" isChecked={p.utc} onChange={(_, utc) => prefer({ utc })} />
        <FormGroup label="What the bucket costs for each GiB and month" fieldId="price">
          <div className="om-actions">
            <TextInput id="currency" aria-label="Currency" value={p.currency} maxLength={4} onChange={(_, v) => prefer({ currency: v })} />
            <TextInput id="price" type="number" min={0} step="any" value={p.price} onChange={(_, v) => prefer({ price: Math.max(0, Number(v) || 0) })} />
          </div>
          <FormHelperText><HelperText><HelperTextItem>The master does not know what your bucket costs; figures of cost are this times its size.</HelperTextItem></HelperText></FormHelperText>
        </FormGroup>
        <FormGroup label="What volumes at a provider cost for each GiB and month" fieldId="volume-price">
          <TextInput id="volume-price" type="number" min={0} step="any" value={p.volumePrice} onChange={(_, v) => prefer({ volumePrice: Math.max(0, Number(v) || 0) })} />
        </FormGroup>
        <FormGroup label="What a processor of a machine there costs for each hour" fieldId="cpu-price">
          <TextInput id="cpu-price" type="number" min={0} step="any" value={p.cpuPrice} onChange={(_, v) => prefer({ cpuPrice: Math.max(0, Number(v) || 0) })} />
          <FormHelperText><HelperText><HelperTextItem>With these two, Launches says what copies cost. 0: it is not known.</HelperTextItem></HelperText></FormHelperText>
        </FormGroup>
      </Form>
      <Content component="h2" className="om-gap">Who is signed in</Content>
      <DescriptionList isCompact columnModifier={{ default: '1Col', md: '2Col' }}>
        <Figure term="Name"><Name text={who.name} /> ({who.kind})</Figure>
        <Figure term="Role">{who.role}</Figure>
        <Figure term="Project"><Name text={who.project} /></Figure>
        <Figure term="Until"><Time at={who.expires} none="no end" /></Figure>
        <Figure term="Master">{shown(who.version, 60)}</Figure>
      </DescriptionList>
      <div className="om-actions om-gap">
        <Button variant="secondary" isLoading={out.busy} onClick={() => out.start()}>Sign out</Button>
      </div>
      {session.state === 'in' && session.by === 'cookie' && <><Password /><Sessions /></>}
      <a href="/api/v1/docs">Reference of the API</a>
    </Screen>
  );
}
