import { useState } from 'react';
import { Button, Form, FormGroup, FormHelperText, HelperText, HelperTextItem, Modal, ModalBody, ModalFooter, ModalHeader, TextInput, Toolbar, ToolbarContent, ToolbarItem } from '@patternfly/react-core';
import { queries } from '../../api/client';
import { asProblem } from '../../api/problem';
import type { MachineInfo } from '../../api/generated/schema';
import { change, launch, pause, resumeMachine, syncNow } from '../../app/machineacts';
import { count } from '../../format/amount';
import { shown } from '../../format/text';
import { done, failed } from '../../parts/toasts';
import { Confirm } from '../../parts/Confirm';

interface Props {
  machines: MachineInfo[];
  clear: () => void;
}

/** Calls of a bulk action that are under way at once. */
const atOnce = 4;

/** Bulk does the same to all machines that are chosen. Each that fails is named with the reason; the others are done. */
export function Bulk({ machines, clear }: Props) {
  const [busy, setBusy] = useState(false);
  const [grouping, setGrouping] = useState(false);
  const [testing, setTesting] = useState(false);
  const forEach = async (what: string, act: (m: MachineInfo) => Promise<unknown>) => {
    setBusy(true);
    const queue = [...machines];
    const failures: { m: MachineInfo; error: unknown }[] = [];
    const worker = async () => {
      for (let m = queue.shift(); m; m = queue.shift()) {
        try {
          await act(m);
        } catch (error) {
          failures.push({ m, error });
        }
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    const first = failures[0];
    if (first) {
      failed(`${what}: ${count(failures.length, 'machine')} of ${machines.length} failed`, {
        ...asProblem(first.error), detail: `${shown(first.m.name, 40)}: ${asProblem(first.error).detail ?? ''}`,
      });
    } else done(`${what}: ${count(machines.length, 'machine')}`);
    setBusy(false);
    clear();
    void queries.invalidateQueries();
  };
  const none = machines.length === 0 || busy;
  return (
    <Toolbar aria-label="Chosen machines">
      <ToolbarContent>
        <ToolbarItem alignSelf="center">{machines.length === 0 ? 'None chosen' : `${count(machines.length, 'machine')} chosen`}</ToolbarItem>
        <ToolbarItem><Button variant="secondary" size="sm" isDisabled={none} onClick={() => void forEach('Copy asked for', syncNow)}>Copy now</Button></ToolbarItem>
        <ToolbarItem><Button variant="secondary" size="sm" isDisabled={none} onClick={() => void forEach('Paused', pause)}>Pause</Button></ToolbarItem>
        <ToolbarItem><Button variant="secondary" size="sm" isDisabled={none} onClick={() => void forEach('Resumed', resumeMachine)}>Resume</Button></ToolbarItem>
        <ToolbarItem><Button variant="secondary" size="sm" isDisabled={none} onClick={() => setTesting(true)}>Launch tests…</Button></ToolbarItem>
        <ToolbarItem><Button variant="secondary" size="sm" isDisabled={none} onClick={() => setGrouping(true)}>Group and tags…</Button></ToolbarItem>
      </ToolbarContent>
      {testing && (
        <Confirm title={`Launch ${count(machines.length, 'test')}?`} label="Launch tests" close={() => setTesting(false)}
          act={() => forEach('Test launched', (m) => launch('test', m.id))}>
          <p>A copy of each is brought up from its newest restpoint, on an isolated network where the provider has one. The sources are not touched. Copies cost what
            the provider asks for them, until they are reverted: by you, or at their deadline.</p>
        </Confirm>
      )}
      {grouping && (
        <Belonging close={() => setGrouping(false)} set={(group, tags) => forEach('Changed', (m) => change(m, {
          ...(group !== undefined && { group }), ...(tags.length > 0 && { tags: [...new Set([...(m.tags ?? []), ...tags])] }),
        }))} />
      )}
    </Toolbar>
  );
}

function Belonging({ close, set }: { close: () => void; set: (group: string | undefined, tags: string[]) => Promise<void> }) {
  const [group, setGroup] = useState('');
  const [tags, setTags] = useState('');
  const list = tags.split(/[\s,]+/).filter(Boolean);
  return (
    <Modal variant="small" isOpen onClose={close} aria-labelledby="belonging-title">
      <ModalHeader title="Group and tags" labelId="belonging-title" />
      <ModalBody>
        <Form>
          <FormGroup label="Group" fieldId="bulk-group">
            <TextInput id="bulk-group" value={group} maxLength={63} onChange={(_, v) => setGroup(v)} />
            <FormHelperText><HelperText><HelperTextItem>Empty leaves each machine’s group as it is.</HelperTextItem></HelperText></FormHelperText>
          </FormGroup>
          <FormGroup label="Tags to add" fieldId="bulk-tags">
            <TextInput id="bulk-tags" value={tags} onChange={(_, v) => setTags(v)} />
            <FormHelperText><HelperText><HelperTextItem>With spaces between them.</HelperTextItem></HelperText></FormHelperText>
          </FormGroup>
        </Form>
      </ModalBody>
      <ModalFooter>
        <Button isDisabled={group.trim() === '' && list.length === 0} onClick={() => { close(); void set(group.trim() || undefined, list); }}>Change</Button>
        <Button variant="link" onClick={close}>Cancel</Button>
      </ModalFooter>
    </Modal>
  );
}
