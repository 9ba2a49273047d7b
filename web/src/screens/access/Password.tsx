import { useState } from 'react';
import { Button, Content, Form, FormGroup, TextInput } from '@patternfly/react-core';
import { client } from '../../api/client';
import { useAct } from '../../app/act';
import { ProblemAlert } from '../../parts/ProblemAlert';

/** Password changes one's own. */
export function Password() {
  const [old, setOld] = useState('');
  const [fresh, setFresh] = useState('');
  const change = useAct(async () => {
    await client.PUT('/api/v1/me/password', { body: { old, new: fresh } });
    setOld('');
    setFresh('');
  }, { done: 'Your password was changed; your other sessions have ended', failed: 'Your password was not changed' });
  return (
    <>
      <Content component="h2" className="om-gap">Change your password</Content>
      <Form isWidthLimited onSubmit={(e) => { e.preventDefault(); change.start(); }}>
        {change.error && <ProblemAlert error={change.error} title="Your password was not changed" />}
        <FormGroup label="Old password" fieldId="old"><TextInput id="old" type="password" value={old} onChange={(_, v) => setOld(v)} autoComplete="current-password" /></FormGroup>
        <FormGroup label="New password, 15 characters at least" fieldId="new"><TextInput id="new" type="password" value={fresh} onChange={(_, v) => setFresh(v)} autoComplete="new-password" /></FormGroup>
        <div><Button type="submit" variant="secondary" isLoading={change.busy} isDisabled={change.busy || old === '' || Array.from(fresh).length < 15}>Change it</Button></div>
      </Form>
    </>
  );
}
