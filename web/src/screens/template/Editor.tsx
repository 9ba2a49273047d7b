import { useState, type FormEvent, type ReactNode } from 'react';
import {
  ActionGroup, Button, Checkbox, Form, FormFieldGroup, FormFieldGroupHeader, FormGroup, FormHelperText, FormSelect, FormSelectOption, HelperText, HelperTextItem, TextInput,
} from '@patternfly/react-core';
import { client } from '../../api/client';
import { ProblemError } from '../../api/problem';
import type { LaunchTemplate, ProviderInfo } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { capabilitiesOf, describeType, faults, networksOf, typesOf } from '../../app/catalogue';
import { useRole } from '../../app/role';
import { goSpan, seconds } from '../../format/time';
import { shown } from '../../format/text';
import { ProblemAlert } from '../../parts/ProblemAlert';
import { ChecksEditor } from './ChecksEditor';

interface Props {
  machine: string;
  was: LaunchTemplate;
  etag: string;
  providers: ProviderInfo[];
  again: () => void;
}

const MiB = 1 << 20;
const hour = 3600;

/** Editor changes a template and says at once what the provider's catalogue has against it. */
export function Editor({ machine, was, etag, providers, again }: Props) {
  const role = useRole();
  const [t, setT] = useState(was);
  const [ports, setPorts] = useState((was.forward ?? []).join(' '));
  const set = (part: Partial<LaunchTemplate>) => setT((old) => ({ ...old, ...part }));
  const p = t.provider ? providers.find((x) => x.name === t.provider) : providers.length === 1 ? providers[0] : undefined;
  const found = faults(t, providers);
  const save = useAct(
    async () => {
      await client.PUT('/api/v1/machines/{machine}/launch-template', { params: { path: { machine }, header: { 'If-Match': etag } }, body: trimmed(t) });
      again();
    },
    { done: 'The template was saved', failed: 'The template was not saved' },
  );
  const off = !role.may('operator');
  const refused = save.error instanceof ProblemError ? save.error.problem : undefined;
  const field = (name: keyof LaunchTemplate, label: string, input: ReactNode, help?: string) => {
    const fault = found.find((f) => f.field === name)?.text ?? (refused?.field === name ? refused.detail : undefined);
    return (
      <FormGroup label={label} fieldId={name}>
        {input}
        {(fault || help) && (
          <FormHelperText>
            <HelperText isLiveRegion={!!fault}><HelperTextItem variant={fault ? 'error' : 'default'}>{fault ? shown(fault, 400) : help}</HelperTextItem></HelperText>
          </FormHelperText>
        )}
      </FormGroup>
    );
  };
  const select = (name: 'provider' | 'type' | 'firmware' | 'bus' | 'network' | 'zone', empty: string, options: { value: string; label: string }[]) => {
    const value = t[name] ?? '';
    const known = value === '' || options.some((o) => o.value === value);
    return (
      <FormSelect id={name} value={value} isDisabled={off} validated={found.some((f) => f.field === name) ? 'error' : 'default'} onChange={(_, v) => set({ [name]: v || undefined })}>
        <FormSelectOption value="" label={empty} />
        {!known && <FormSelectOption value={value} label={shown(value, 60)} />}
        {options.map((o) => <FormSelectOption key={o.value} value={o.value} label={shown(o.label, 100)} />)}
      </FormSelect>
    );
  };
  const same = (values: string[]) => values.map((value) => ({ value, label: value }));
  const submit = (e: FormEvent) => {
    e.preventDefault();
    save.start();
  };
  const caps = capabilitiesOf(p);
  return (
    <Form onSubmit={submit} isWidthLimited>
      {save.error && <ProblemAlert error={save.error} title="The template was not saved" retry={refused?.code === 'changed' ? again : undefined} />}
      <FormFieldGroup header={<FormFieldGroupHeader titleText={{ text: 'Where', id: 'where' }} />}>
        {field('provider', 'Provider', select('provider', 'The only one', providers.map((x) => ({ value: x.name, label: `${x.name} (${x.kind})` }))))}
        {field('zone', 'Zone', select('zone', 'Any', same(caps.zones ?? [])))}
        {field('network', 'Network', select('network', 'A test: isolated. A cutover: the first that is not', networksOf(p).map((n) => ({ value: n.id, label: `${n.name}${n.isolated ? ', isolated' : ''}` }))))}
        {field('forward', 'TCP ports reached from the provider’s host',
          <TextInput id="forward" value={ports} isDisabled={off} onChange={(_, v) => { setPorts(v); set({ forward: v.split(/[\s,]+/).filter(Boolean).map(Number) }); }} />, 'With spaces between them.')}
      </FormFieldGroup>
      <FormFieldGroup header={<FormFieldGroupHeader titleText={{ text: 'What', id: 'what' }} />}>
        {field('type', 'Instance type', select('type', 'The smallest that has the source’s processors and memory', typesOf(p).map((x) => ({ value: x.id, label: describeType(x) }))))}
        {field('cpus', 'Processors', <TextInput id="cpus" type="number" min={0} value={t.cpus ?? ''} isDisabled={off} onChange={(_, v) => set({ cpus: Number(v) || undefined })} />, 'Empty: as the source.')}
        {field('memory', 'Memory in MiB', <TextInput id="memory" type="number" min={0} value={t.memory ? t.memory / MiB : ''} isDisabled={off}
          onChange={(_, v) => set({ memory: Math.round(Number(v) * MiB) || undefined })} />, 'Empty: as the source.')}
        {field('firmware', 'Firmware', select('firmware', 'As the source', same(['bios', 'uefi'])))}
        {field('bus', 'Disk bus', select('bus', 'The type’s first', same(typesOf(p).find((x) => x.id === t.type)?.buses ?? [...new Set(typesOf(p).flatMap((x) => x.buses ?? []))])))}
      </FormFieldGroup>
      <FormFieldGroup header={<FormFieldGroupHeader titleText={{ text: 'How', id: 'how' }} />}>
        {field('deadline', 'Hours after which a test is reverted',
          <TextInput id="deadline" type="number" step="any" value={t.deadline ? seconds(t.deadline) / hour : ''} isDisabled={off}
            onChange={(_, v) => set({ deadline: Number(v) ? goSpan(Number(v) * hour) : undefined })} />, 'Empty: 24. Negative: never by itself.')}
        <Checkbox id="warm" label="Keep volumes at the provider that follow each restpoint: launches begin sooner, and the volumes cost what the provider asks" isChecked={t.warm ?? false}
          isDisabled={off} onChange={(_, on) => set({ warm: on || undefined })} />
        <Checkbox id="instant" label="Tests start from staging at once, and are copied behind the running machine" isChecked={t.instant ?? false} isDisabled={off}
          onChange={(_, on) => set({ instant: on || undefined })} />
        <Checkbox id="as_is" label="Change nothing in the copy: the system can start at the target already" isChecked={t.as_is ?? false} isDisabled={off}
          onChange={(_, on) => set({ as_is: on || undefined })} />
      </FormFieldGroup>
      <ChecksEditor checks={t.checks ?? []} off={off} set={(checks) => set({ checks: checks.length > 0 ? checks : undefined })} />
      {!off && (
        <ActionGroup>
          <Button type="submit" isDisabled={found.length > 0 || save.busy} isLoading={save.busy}>Save</Button>
          <Button variant="link" onClick={() => setT(was)}>Undo changes</Button>
        </ActionGroup>
      )}
    </Form>
  );
}

/** trimmed leaves out what is empty: the master takes it as not said. */
function trimmed(t: LaunchTemplate): LaunchTemplate {
  return Object.fromEntries(Object.entries(t).filter(([, v]) => v !== undefined && v !== '' && !(Array.isArray(v) && v.length === 0))) as LaunchTemplate;
}
