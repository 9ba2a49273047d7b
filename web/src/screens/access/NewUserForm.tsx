import { useState } from 'react';
import { Button, Form, FormGroup, FormSelect, FormSelectOption, TextInput } from '@patternfly/react-core';
import { client } from '../../api/client';
import { useWho } from '../../api/session';
import type { Link } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { shown } from '../../format/text';
import { ProblemAlert } from '../../parts/ProblemAlert';

const roles = ['viewer', 'operator', 'admin'];

/** NewUserForm makes a user. A password is set with the link that comes of it. */
export function NewUserForm({ made }: { made: (name: string, link: Link) => void }) {
  const { project } = useWho();
  const [name, setName] = useState('');
  const [role, setRole] = useState('viewer');
  const [where, setWhere] = useState(project);
  const make = useAct(async () => {
    const { data } = await client.POST('/api/v1/users', { body: { name: name.trim(), roles: { [where]: role } } });
    made(data!.name, data!.link);
    setName('');
  }, { failed: 'No user was made' });
  return (
    <Form className="om-gap" isHorizontal isWidthLimited onSubmit={(e) => { e.preventDefault(); make.start(); }} aria-label="Make a user">
      {make.error && <ProblemAlert error={make.error} title="No user was made" />}
      <FormGroup label="Name" isRequired fieldId="user-name"><TextInput id="user-name" isRequired value={name} maxLength={200} onChange={(_, v) => setName(v)} autoComplete="off" /></FormGroup>
      <FormGroup label="Role" fieldId="user-role"><FormSelect id="user-role" value={role} onChange={(_, v) => setRole(v)}>{roles.map((r) => <FormSelectOption key={r} value={r} label={r} />)}</FormSelect></FormGroup>
      <FormGroup label="Where" fieldId="user-where">
        <FormSelect id="user-where" value={where} onChange={(_, v) => setWhere(v)}>
          <FormSelectOption value={project} label={`In project ${shown(project, 40)}`} />
          <FormSelectOption value="*" label="In all projects, and of the master itself" />
        </FormSelect>
      </FormGroup>
      <div><Button type="submit" isDisabled={name.trim() === '' || make.busy} isLoading={make.busy}>Make a user</Button></div>
    </Form>
  );
}
