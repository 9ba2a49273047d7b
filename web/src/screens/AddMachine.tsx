import { useEffect, useState } from 'react';
import { Alert, Button, Card, CardBody, CardTitle, Content, Form, FormGroup, FormHelperText, HelperText, HelperTextItem, Spinner, Stack, StackItem, TextInput } from '@patternfly/react-core';
import { Link } from '@tanstack/react-router';
import { api, client } from '../api/client';
import type { EnrolTokenInfo } from '../api/generated/schema';
import { useAct } from '../app/act';
import { useRole } from '../app/role';
import { Command } from '../parts/Command';
import { Ago, Time } from '../parts/Time';
import { Loaded } from '../parts/Loaded';
import { Nothing } from '../parts/Nothing';
import { Screen } from '../parts/Screen';
import { Figures } from './machine/Figures';
import { Life } from './machine/Life';
import { Name } from '../parts/Name';

const trail = [{ to: '/machines', label: 'Machines' }];

/** AddMachine shows the one command to paste, and becomes the machine as it enrols. */
export function AddMachine() {
  const role = useRole();
  if (!role.may('admin')) {
    return (
      <Screen title="Add a machine" trail={trail}>
        <Nothing title="Only an admin can add machines">Ask one for an enrolment token, or to add it for you.</Nothing>
      </Screen>
    );
  }
  return <Adding />;
}

function Adding() {
  const [token, setToken] = useState<EnrolTokenInfo>();
  const [uses, setUses] = useState('1');
  const make = useAct(
    async () => {
      const { data } = await client.POST('/api/v1/enrolment-tokens', { body: { kind: 'agent', uses: Math.max(1, Math.floor(Number(uses)) || 1) } });
      setToken(data);
    },
    { failed: 'No token was made' },
  );
  return (
    <Screen title="Add a machine" trail={trail} text="The agent on the server dials out to this master; it opens no port. It needs Linux and root.">
      {token?.token ? <Enrolling token={token} text={token.token} /> : (
        <Form onSubmit={(e) => { e.preventDefault(); make.start(); }}>
          <FormGroup label="How many servers" fieldId="uses">
            <TextInput id="uses" type="number" min={1} max={1000} value={uses} onChange={(_, v) => setUses(v)} />
            <FormHelperText><HelperText><HelperTextItem>The same command adds so many, within a day.</HelperTextItem></HelperText></FormHelperText>
          </FormGroup>
          <div><Button type="submit" isLoading={make.busy} isDisabled={make.busy}>Make the command</Button></div>
        </Form>
      )}
    </Screen>
  );
}

function Enrolling({ token, text }: { token: EnrolTokenInfo; text: string }) {
  const query = api.useQuery('get', '/api/v1/enrolment-tokens', { params: { query: { limit: 500 } } });
  const now = query.data?.items.find((t) => t.id === token.id);
  const machines = (now?.used_by ?? []).map((u) => u.slice(u.indexOf('/') + 1));
  const open = now === undefined ? token.uses : now.uses;
  return (
    <Stack hasGutter>
      <StackItem>
        <Card>
          <CardTitle component="h2">On the server, as root</CardTitle>
          <CardBody>
            <Command label="the command that adds the server" text={`openmigrate-agent run --token ${text}`} />
            <Content component="p" className="om-gap">
              It is good until <Time at={token.expires} /> (<Ago at={token.expires} />). It carries this master’s address and the fingerprint of its certificate, so the agent
              trusts no other. Whoever has it can enrol a server: do not keep it.
            </Content>
            <Content component="p">
              The agent is one static binary, bin/openmigrate-agent of this release. packaging/systemd has a unit that keeps it running. To copy certain disks only, add --disk /dev/…
              for each.
            </Content>
          </CardBody>
        </Card>
      </StackItem>
      <StackItem aria-live="polite">
        {open > 0 && machines.length === 0 && <Alert isInline variant="info" customIcon={<Spinner size="md" aria-label="Waiting" />} title="Waiting for the agent to connect" />}
        {machines.map((id) => <Enrolled key={id} id={id} />)}
        {open > 0 && machines.length > 0 && <Content component="p">{open} more can be added with this command.</Content>}
      </StackItem>
    </Stack>
  );
}

/** Enrolled is a machine that has just come. */
function Enrolled({ id }: { id: string }) {
  const query = api.useQuery('get', '/api/v1/machines/{machine}', { params: { path: { machine: id } } });
  useEffect(() => {
    window.scrollTo({ top: document.body.scrollHeight });
  }, []);
  return (
    <Loaded query={query}>
      {(m) => (
        <Stack hasGutter>
          <StackItem>
            <Alert isInline variant="success" title={<><Name text={m.name} /> has enrolled</>}>
              <Link to="/machines/$machine" params={{ machine: m.id }}>Open it</Link>
            </Alert>
          </StackItem>
          <StackItem><Life m={m} /></StackItem>
          <StackItem><Figures m={m} /></StackItem>
        </Stack>
      )}
    </Loaded>
  );
}
