import { useEffect, useState, type FormEvent } from 'react';
import { Button, Content, Form, FormGroup, FormHelperText, HelperText, HelperTextItem, TextInput } from '@patternfly/react-core';
import { useNavigate } from '@tanstack/react-router';
import type { LinkInfo } from '../api/generated/schema';
import { askLink, spendLink } from '../api/session';
import { Door } from '../parts/Door';
import { Waiting } from '../parts/Loaded';
import { Name } from '../parts/Name';
import { ProblemAlert } from '../parts/ProblemAlert';
import { Time } from '../parts/Time';

const leastPassword = 15;

/** Welcome uses a one-time link: it makes the first admin, or sets somebody's password. The link stands behind the # of the address, which is in no server's log. */
export function Welcome() {
  const [link] = useState(() => window.location.hash.slice(1));
  const [info, setInfo] = useState<LinkInfo>();
  const [error, setError] = useState<unknown>();
  useEffect(() => {
    window.history.replaceState(null, '', '/welcome'); // nor in this browser's history
    askLink(link).then(setInfo, setError);
  }, [link]);
  return (
    <Door title={info?.kind === 'password' ? 'Set your password' : 'Welcome to OpenMigrate'}>
      {error !== undefined && (
        <>
          <ProblemAlert error={error} title="This link cannot be used" />
          <Content component="p" className="om-gap"><a href="/overview">Sign in</a>, or ask an admin for a new link. While there are no users the master prints one each time it starts.</Content>
        </>
      )}
      {info ? <Choose link={link} info={info} /> : error === undefined && <Waiting />}
    </Door>
  );
}

function Choose({ link, info }: { link: string; info: LinkInfo }) {
  const navigate = useNavigate();
  const first = info.kind !== 'password';
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [again, setAgain] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const fault = password !== '' && Array.from(password).length < leastPassword ? `At least ${leastPassword} characters: a few words do.` : again !== '' && again !== password ? 'The two are not the same.' : '';
  const ready = password !== '' && again === password && fault === '' && (!first || name.trim() !== '');
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await spendLink(link, password, first ? name.trim() : undefined);
      await navigate({ to: '/overview', replace: true });
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return (
    <>
      <Content component="p">
        {first ? 'This makes the first user, an admin of everything here.' : <>For <Name text={info.user ?? ''} />. Sessions that are open elsewhere end.</>} The link is good
        once, until <Time at={info.expires} />.
      </Content>
      {error !== undefined && <ProblemAlert error={error} title="It was not done" />}
      <Form onSubmit={(e) => void submit(e)}>
        {first && <FormGroup label="Name" isRequired fieldId="name"><TextInput id="name" isRequired value={name} maxLength={200} onChange={(_, v) => setName(v)} autoComplete="username" /></FormGroup>}
        <FormGroup label="Password" isRequired fieldId="password">
          <TextInput id="password" type="password" isRequired value={password} onChange={(_, v) => setPassword(v)} autoComplete="new-password" />
        </FormGroup>
        <FormGroup label="Password again" isRequired fieldId="again">
          <TextInput id="again" type="password" isRequired value={again} onChange={(_, v) => setAgain(v)} autoComplete="new-password" />
          {fault && <FormHelperText><HelperText isLiveRegion><HelperTextItem variant="error">{fault}</HelperTextItem></HelperText></FormHelperText>}
        </FormGroup>
        <Button type="submit" isBlock isDisabled={!ready || busy} isLoading={busy}>{first ? 'Make me admin' : 'Set the password'}</Button>
      </Form>
    </>
  );
}
