import { useState, type FormEvent } from 'react';
import { ActionGroup, Button, Checkbox, Form, FormGroup, FormHelperText, FormSelect, FormSelectOption, Grid, GridItem, HelperText, HelperTextItem, TextInput } from '@patternfly/react-core';
import type { MachineChange, MachineInfo } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { change } from '../../app/machineacts';
import { goSpan, seconds } from '../../format/time';
import { useRole } from '../../app/role';
import { consistencyMeans } from '../../parts/states';
import { ProblemAlert } from '../../parts/ProblemAlert';
import { Danger } from './Danger';

const MiB = 1 << 20;

/** MachineSettings are what people want of a machine's replication, and what it belongs to. */
export function MachineSettings({ m }: { m: MachineInfo }) {
  const role = useRole();
  const p = m.policy;
  const [asked, setAsked] = useState(seconds(p.interval) < 0);
  const [interval, setInterval] = useState(String(Math.max(1, seconds(p.interval))));
  const [bandwidth, setBandwidth] = useState(String((p.bandwidth ?? 0) / MiB));
  const [consistency, setConsistency] = useState(p.consistency ?? '');
  const [from, setFrom] = useState(p.window?.from ?? '');
  const [to, setTo] = useState(p.window?.to ?? '');
  const [group, setGroup] = useState(m.group ?? '');
  const [tags, setTags] = useState((m.tags ?? []).join(' '));
  const save = useAct((body: MachineChange) => change(m, body), { done: 'Settings were saved', failed: 'Settings were not saved' });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    save.start({
      interval: asked ? '-1s' : goSpan(Number(interval)),
      bandwidth: Math.round(Number(bandwidth) * MiB),
      consistency,
      window: { from: from || '00:00', to: to || '00:00', weekdays: p.window?.weekdays },
      group: group.trim(),
      tags: tags.split(/[\s,]+/).filter(Boolean),
    });
  };
  const off = !role.may('operator');
  return (
    <Grid hasGutter className="om-gap">
      <GridItem lg={7}>
        <Form onSubmit={submit} aria-label="Settings">
          {save.error && <ProblemAlert error={save.error} title="Settings were not saved" />}
          <FormGroup label="Seconds from one restpoint to the next" fieldId="interval">
            <TextInput id="interval" type="number" min={1} value={interval} isDisabled={off || asked} onChange={(_, v) => setInterval(v)} />
            <Checkbox id="asked" label="Only when somebody asks for one" isChecked={asked} isDisabled={off} onChange={(_, on) => setAsked(on)} />
          </FormGroup>
          <FormGroup label="Bandwidth limit in MiB per second" fieldId="bandwidth">
            <TextInput id="bandwidth" type="number" min={0} step="any" value={bandwidth} isDisabled={off} onChange={(_, v) => setBandwidth(v)} />
            <Help>0: no limit.</Help>
          </FormGroup>
          <FormGroup label="Consistency" fieldId="consistency">
            <FormSelect id="consistency" value={consistency} isDisabled={off} onChange={(_, v) => setConsistency(v)}>
              <FormSelectOption value="" label="The strongest that it can give" />
              {Object.keys(consistencyMeans).map((c) => <FormSelectOption key={c} value={c} label={c} />)}
            </FormSelect>
            <Help>{consistencyMeans[consistency] ?? 'What each restpoint got stands beside it, and why not more beside the disk.'}</Help>
          </FormGroup>
          <FormGroup label="Send only between these times (UTC)" fieldId="from">
            <div className="om-actions">
              <TextInput id="from" type="time" aria-label="From, UTC" value={from} isDisabled={off} onChange={(_, v) => setFrom(v)} />
              <TextInput id="to" type="time" aria-label="To, UTC" value={to} isDisabled={off} onChange={(_, v) => setTo(v)} />
            </div>
            <Help>Both the same or empty: at all times.</Help>
          </FormGroup>
          <FormGroup label="Group" fieldId="group"><TextInput id="group" value={group} maxLength={63} isDisabled={off} onChange={(_, v) => setGroup(v)} /></FormGroup>
          <FormGroup label="Tags" fieldId="tags">
            <TextInput id="tags" value={tags} isDisabled={off} onChange={(_, v) => setTags(v)} />
            <Help>With spaces between them.</Help>
          </FormGroup>
          {!off && <ActionGroup><Button type="submit" isLoading={save.busy} isDisabled={save.busy}>Save</Button></ActionGroup>}
        </Form>
      </GridItem>
      {!off && <GridItem lg={5}><Danger m={m} /></GridItem>}
    </Grid>
  );
}

function Help({ children }: { children: string }) {
  return <FormHelperText><HelperText><HelperTextItem>{children}</HelperTextItem></HelperText></FormHelperText>;
}
