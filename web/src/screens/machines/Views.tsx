import { useState, type FormEvent } from 'react';
import { Button, Divider, Dropdown, DropdownItem, DropdownList, Form, FormGroup, MenuToggle, Modal, ModalBody, ModalFooter, ModalHeader, TextInput } from '@patternfly/react-core';
import { machineSearch, narrowed, type MachineSearch } from '../../app/machinesearch';
import { prefer, usePreferences } from '../../app/preferences';
import { shown } from '../../format/text';

interface Props {
  search: MachineSearch;
  change: (to: MachineSearch) => void;
}

/** Views are searches that were kept under a name, in this browser. */
export function Views({ search, change }: Props) {
  const { views } = usePreferences();
  const [open, setOpen] = useState(false);
  const [naming, setNaming] = useState(false);
  const active = views.find((v) => JSON.stringify(machineSearch(v.search)) === JSON.stringify(search));
  return (
    <>
      <Dropdown isOpen={open} onOpenChange={setOpen} onSelect={() => setOpen(false)}
        toggle={(ref) => <MenuToggle ref={ref} isExpanded={open} onClick={() => setOpen(!open)}>{active ? shown(active.name, 30) : 'Views'}</MenuToggle>}>
        <DropdownList>
          <DropdownItem onClick={() => change({})}>All machines</DropdownItem>
          <DropdownItem onClick={() => change({ attention: true, sort: '-lag' })}>Needs attention, latest first</DropdownItem>
          <DropdownItem onClick={() => change({ life: ['ready-to-test'] })}>Ready to test</DropdownItem>
          {views.map((v) => (
            <DropdownItem key={v.name} onClick={() => change(machineSearch(v.search))}>{shown(v.name, 60)}</DropdownItem>
          ))}
          <Divider component="li" />
          <DropdownItem isDisabled={!narrowed(search)} onClick={() => setNaming(true)}>Keep this search as a view…</DropdownItem>
          <DropdownItem isDisabled={!active} onClick={() => prefer({ views: views.filter((v) => v !== active) })}>Forget this view</DropdownItem>
        </DropdownList>
      </Dropdown>
      {naming && <Naming close={() => setNaming(false)} keep={(name) => prefer({ views: [...views.filter((v) => v.name !== name), { name, search: { ...search } }] })} />}
    </>
  );
}

function Naming({ close, keep }: { close: () => void; keep: (name: string) => void }) {
  const [name, setName] = useState('');
  const submit = (e?: FormEvent) => {
    e?.preventDefault();
    if (name.trim() === '') return;
    keep(name.trim());
    close();
  };
  return (
    <Modal variant="small" isOpen onClose={close} aria-labelledby="view-title">
      <ModalHeader title="Keep this search as a view" labelId="view-title" />
      <ModalBody>
        <Form onSubmit={submit}>
          <FormGroup label="Name" fieldId="view-name"><TextInput id="view-name" value={name} maxLength={60} onChange={(_, v) => setName(v)} /></FormGroup>
        </Form>
      </ModalBody>
      <ModalFooter>
        <Button isDisabled={name.trim() === ''} onClick={() => submit()}>Keep</Button>
        <Button variant="link" onClick={close}>Cancel</Button>
      </ModalFooter>
    </Modal>
  );
}
