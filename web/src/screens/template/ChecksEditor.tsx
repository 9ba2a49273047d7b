import { Button, FormFieldGroup, FormFieldGroupHeader, FormGroup, FormSelect, FormSelectOption, TextInput } from '@patternfly/react-core';
import type { LaunchCheck } from '../../api/generated/schema';
import { goSpan, seconds } from '../../format/time';

const kinds: { kind: string; label: string; parts: ('text' | 'port' | 'path' | 'status')[] }[] = [
  { kind: 'boot', label: 'The system says on its console that it is up', parts: [] },
  { kind: 'console', label: 'A text appears on the console', parts: ['text'] },
  { kind: 'tcp', label: 'A TCP port answers', parts: ['port'] },
  { kind: 'http', label: 'A web page answers', parts: ['port', 'path', 'status', 'text'] },
  { kind: 'call-home', label: 'The agent on the copy reaches this master', parts: [] },
  { kind: 'screenshot', label: 'A screenshot can be taken', parts: [] },
];
const labels = { text: 'Text', port: 'Port', path: 'Path', status: 'Status' };
const most = 16;

/** ChecksEditor says what must be so before a copy counts as running. */
export function ChecksEditor({ checks, off, set }: { checks: LaunchCheck[]; off: boolean; set: (checks: LaunchCheck[]) => void }) {
  const change = (at: number, part: Partial<LaunchCheck>) => set(checks.map((c, i) => (i === at ? { ...c, ...part } : c)));
  return (
    <FormFieldGroup header={<FormFieldGroupHeader titleText={{ text: 'Checks', id: 'checks' }} titleDescription="None: the copy must say on its console that it is up."
      actions={!off && <Button variant="secondary" isDisabled={checks.length >= most} onClick={() => set([...checks, { kind: 'boot' }])}>Add a check</Button>} />}>
      {checks.map((c, i) => {
        const parts = kinds.find((k) => k.kind === c.kind)?.parts ?? [];
        const n = `Check ${i + 1}`;
        return (
          <FormGroup key={i} label={n} role="group" fieldId={`check-${i}`}>
            <div className="om-actions">
              <FormSelect id={`check-${i}`} aria-label={n} value={c.kind} isDisabled={off} onChange={(_, kind) => change(i, { kind, text: undefined, port: undefined, path: undefined, status: undefined })}>
                {kinds.map((k) => <FormSelectOption key={k.kind} value={k.kind} label={k.label} />)}
              </FormSelect>
              {parts.map((part) => (
                <TextInput key={part} aria-label={`${n}: ${labels[part]}`} placeholder={labels[part]} isDisabled={off} type={part === 'port' || part === 'status' ? 'number' : 'text'}
                  value={c[part] ?? ''} onChange={(_, v) => change(i, { [part]: part === 'port' || part === 'status' ? Number(v) || undefined : v || undefined })} />
              ))}
              <TextInput aria-label={`${n}: seconds to wait`} placeholder="Seconds to wait (600)" type="number" isDisabled={off} value={c.timeout ? seconds(c.timeout) : ''}
                onChange={(_, v) => change(i, { timeout: Number(v) ? goSpan(Number(v)) : undefined })} />
              {!off && <Button variant="link" onClick={() => set(checks.filter((_, at) => at !== i))} aria-label={`Remove check ${i + 1}`}>Remove</Button>}
            </div>
          </FormGroup>
        );
      })}
    </FormFieldGroup>
  );
}
