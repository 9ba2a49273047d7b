import { useState } from 'react';
import { Alert, Button, Content, Form, FormGroup, FormHelperText, HelperText, HelperTextItem, Label, TextInput } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { api, client, queries } from '../../api/client';
import type { Hook, NewWebhook } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { shown } from '../../format/text';
import { isSet } from '../../format/time';
import { Command } from '../../parts/Command';
import { Confirm } from '../../parts/Confirm';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';
import { ProblemAlert } from '../../parts/ProblemAlert';
import { Ago } from '../../parts/Time';
import { done } from '../../parts/toasts';
import { Deliveries } from './Deliveries';

/** Webhooks are addresses that events are sent to. */
export function Webhooks() {
  const [asking, setAsking] = useState<Hook>();
  const [open, setOpen] = useState<Hook>();
  const query = api.useQuery('get', '/api/v1/webhooks', { params: { query: { limit: 500 } } });
  const test = useAct((h: Hook) => client.POST('/api/v1/webhooks/{webhook}/test', { params: { path: { webhook: h.id } } }), { done: 'A test event is on its way', failed: 'No test event was sent' });
  return (
    <>
      <NewHook />
      <Loaded query={query}>
        {(page) => page.items.length === 0 ? <Nothing title="No webhooks">Give an address above, and it hears of what happens here: signed, and tried again until it answers.</Nothing> : (
          <Table aria-label="Webhooks" variant="compact">
            <Thead><Tr><Th>Address</Th><Th>Events</Th><Th>State</Th><Th>Last delivered</Th><Th screenReaderText="Actions" /></Tr></Thead>
            <Tbody>
              {page.items.map((h) => (
                <Tr key={h.id}>
                  <Td dataLabel="Address" modifier="breakWord"><Name text={h.url} most={120} />{h.description && <div className="om-quiet"><Name text={h.description} most={120} /></div>}</Td>
                  <Td dataLabel="Events">{h.types.map((t) => shown(t, 40)).join(', ')}</Td>
                  <Td dataLabel="State" modifier="breakWord">
                    <Label isCompact status={!h.enabled ? 'warning' : isSet(h.failing) ? 'danger' : 'success'}>{!h.enabled ? 'Off' : isSet(h.failing) ? 'Failing' : 'On'}</Label> {h.disabled && shown(h.disabled, 200)}
                  </Td>
                  <Td dataLabel="Last delivered"><Ago at={h.last_success} /></Td>
                  <Td>
                    <div className="om-actions">
                      <Button variant="link" isInline aria-label={`Send a test event to ${shown(h.url, 60)}`} onClick={() => test.start(h)}>Test</Button>
                      <Button variant="link" isInline aria-label={`Deliveries to ${shown(h.url, 60)}`} onClick={() => setOpen(h)}>Deliveries</Button>
                      <Button variant="link" isInline isDanger aria-label={`Remove ${shown(h.url, 60)}`} onClick={() => setAsking(h)}>Remove…</Button>
                    </div>
                  </Td>
                </Tr>
              ))}
            </Tbody>
          </Table>
        )}
      </Loaded>
      {open && <Deliveries hook={open} close={() => setOpen(undefined)} />}
      {asking && (
        <Confirm title="Remove this webhook?" label="Remove it" danger close={() => setAsking(undefined)} act={async () => {
          await client.DELETE('/api/v1/webhooks/{webhook}', { params: { path: { webhook: asking.id }, header: { 'If-Match': '*' } } });
          done('The webhook was removed');
          void queries.invalidateQueries();
        }}>
          <Content component="p"><strong>What is lost:</strong> its secret, its deliveries, and those that were not made yet. {shown(asking.url, 120)} hears nothing more.</Content>
        </Confirm>
      )}
    </>
  );
}

function NewHook() {
  const [url, setURL] = useState('');
  const [types, setTypes] = useState('*');
  const [made, setMade] = useState<NewWebhook>();
  const make = useAct(async () => {
    const { data } = await client.POST('/api/v1/webhooks', { body: { url: url.trim(), types: types.split(/[\s,]+/).filter(Boolean) } });
    setMade(data);
    setURL('');
  }, { failed: 'No webhook was made' });
  return (
    <Form className="om-gap" isHorizontal isWidthLimited onSubmit={(e) => { e.preventDefault(); make.start(); }} aria-label="Make a webhook">
      {make.error && <ProblemAlert error={make.error} title="No webhook was made" />}
      {made && (
        <Alert isInline variant="success" title="Save this secret now: it is shown once">
          <Command label="the secret" text={made.secret} />
          <Content component="p">Deliveries are signed with it by the rules of Standard Webhooks.</Content>
        </Alert>
      )}
      <FormGroup label="Address" isRequired fieldId="hook-url"><TextInput id="hook-url" type="url" isRequired value={url} placeholder="https://" onChange={(_, v) => setURL(v)} /></FormGroup>
      <FormGroup label="Events" fieldId="hook-types">
        <TextInput id="hook-types" value={types} onChange={(_, v) => setTypes(v)} />
        <FormHelperText><HelperText><HelperTextItem>*: all. launch.*: all of launches. With spaces between them.</HelperTextItem></HelperText></FormHelperText>
      </FormGroup>
      <div><Button type="submit" isDisabled={url.trim() === '' || make.busy} isLoading={make.busy}>Make a webhook</Button></div>
    </Form>
  );
}
