import { useEffect, useState, type FormEvent } from 'react';
import { Button, Content, ExpandableSection, Form, FormGroup, TextInput } from '@patternfly/react-core';
import type { Problem } from '../api/generated/schema';
import { signInWithPassword, signInWithToken, waysIn } from '../api/session';
import { shown } from '../format/text';
import { Command } from '../parts/Command';
import { Door } from '../parts/Door';
import { ProblemAlert } from '../parts/ProblemAlert';

/** SignIn lets somebody in with a password or an API token. Wherever he was going, he is there afterwards. */
export function SignIn({ why }: { why?: Problem }) {
  const [byToken, setByToken] = useState(false);
  const [name, setName] = useState('');
  const [secret, setSecret] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(why);
  const [provider, setProvider] = useState<string>();
  useEffect(() => {
    waysIn().then((ways) => setProvider(ways.oidc), () => undefined); // the other ways stay
  }, []);
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await (byToken ? signInWithToken(secret) : signInWithPassword(name, secret));
    } catch (failure) {
      setError(failure);
      setSecret('');
      setBusy(false);
    }
  };
  const turn = () => {
    setByToken(!byToken);
    setSecret('');
    setError(undefined);
  };
  const ready = secret.trim() !== '' && (byToken || name.trim() !== '');
  return (
    <Door title="Sign in to OpenMigrate">
      {error !== undefined && <ProblemAlert error={error} title={error === why ? 'You were signed out' : 'This did not let you in'} />}
      {provider && (
        <>
          <Button component="a" href={`/login/oidc?return=${encodeURIComponent(window.location.pathname + window.location.search)}`} variant="secondary" isBlock>
            Sign in through {shown(provider, 60)}
          </Button>
          <Content component="p" className="om-gap">Or with a password or a token of this master:</Content>
        </>
      )}
      <Form onSubmit={(e) => void submit(e)}>
        {!byToken && (
          <FormGroup label="Name" isRequired fieldId="name">
            <TextInput id="name" isRequired value={name} onChange={(_, v) => setName(v)} autoComplete="username" spellCheck={false} autoCapitalize="none" />
          </FormGroup>
        )}
        <FormGroup key={String(byToken)} label={byToken ? 'API token' : 'Password'} isRequired fieldId="secret">
          <TextInput id="secret" type="password" isRequired value={secret} onChange={(_, v) => setSecret(v)} autoComplete="current-password" spellCheck={false} />
        </FormGroup>
        <Button type="submit" isBlock isDisabled={busy || !ready} isLoading={busy}>Sign in</Button>
        <Button variant="link" isInline onClick={turn}>{byToken ? 'Use a name and password' : 'Use an API token'}</Button>
      </Form>
      <ExpandableSection toggleText="I have neither" className="om-gap">
        <Content component="p">While there are no users, the master prints a link with which the first one is made when it starts. After that an admin makes users under Access.</Content>
        <Content component="p">An admin’s token is in the master’s data directory. In the browser a token is kept for one tab only:</Content>
        <Command label="the command that shows the token" text="grep TOKEN= D/env" />
      </ExpandableSection>
    </Door>
  );
}
