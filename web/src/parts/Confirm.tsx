import { useState, type ReactNode } from 'react';
import { Button, Form, FormGroup, Modal, ModalBody, ModalFooter, ModalHeader, TextInput } from '@patternfly/react-core';
import { asProblem } from '../api/problem';
import { shown } from '../format/text';
import { ProblemAlert } from './ProblemAlert';

interface Props {
  title: string;
  /** What will happen, and what is lost. */
  children: ReactNode;
  /** The name to type before it can be done; empty: nothing is lost that could not be had again. */
  name?: string;
  label: string;
  danger?: boolean;
  act: () => Promise<unknown>;
  close: () => void;
}

/** Confirm asks before something that cannot be taken back. It stays open with the reason when it fails. */
export function Confirm({ title, children, name, label, danger, act, close }: Props) {
  const [typed, setTyped] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const ready = !name || typed === name;
  const run = async () => {
    setBusy(true);
    setError(undefined);
    try {
      await act();
      close();
    } catch (e) {
      setError(asProblem(e));
      setBusy(false);
    }
  };
  return (
    <Modal variant="medium" isOpen onClose={busy ? undefined : close} aria-labelledby="confirm-title" aria-describedby="confirm-body">
      <ModalHeader title={title} labelId="confirm-title" titleIconVariant={danger ? 'warning' : undefined} />
      <ModalBody id="confirm-body">
        {error !== undefined && <ProblemAlert error={error} title="It was not done" />}
        {children}
        {name && (
          <Form className="om-confirm" onSubmit={(e) => { e.preventDefault(); if (ready && !busy) void run(); }}>
            <FormGroup label={<>Type <strong>{shown(name)}</strong> to go on</>} fieldId="confirm-name">
              <TextInput id="confirm-name" value={typed} onChange={(_, v) => setTyped(v)} autoComplete="off" spellCheck={false} />
            </FormGroup>
          </Form>
        )}
      </ModalBody>
      <ModalFooter>
        <Button variant={danger ? 'danger' : 'primary'} isDisabled={!ready || busy} isLoading={busy} onClick={() => void run()}>{label}</Button>
        <Button variant="link" isDisabled={busy} onClick={close}>Cancel</Button>
      </ModalFooter>
    </Modal>
  );
}
