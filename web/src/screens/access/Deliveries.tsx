import { Button, Content, Modal, ModalBody, ModalFooter, ModalHeader } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { api, client } from '../../api/client';
import type { Hook } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { shown, words } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Ago } from '../../parts/Time';

/** Deliveries are what was sent to a webhook of late, and what became of it. */
export function Deliveries({ hook, close }: { hook: Hook; close: () => void }) {
  const webhook = hook.id;
  const query = api.useQuery('get', '/api/v1/webhooks/{webhook}/deliveries', { params: { path: { webhook }, query: { limit: 50 } } });
  const resend = useAct((sequence: number) => client.POST('/api/v1/webhooks/{webhook}/deliveries/{sequence}/resend', { params: { path: { webhook, sequence } } }),
    { done: 'It is sent again', failed: 'It was not sent again' });
  return (
    <Modal variant="large" isOpen onClose={close} aria-labelledby="deliveries-title">
      <ModalHeader title={`Deliveries to ${shown(hook.url, 80)}`} labelId="deliveries-title" />
      <ModalBody tabIndex={0}>
        <Loaded query={query}>
          {(page) => page.items.length === 0 ? <Content component="p">Nothing was sent yet. A test event shows whether it works.</Content> : (
            <Table aria-label="Deliveries" variant="compact">
              <Thead><Tr><Th>Event</Th><Th>Made</Th><Th>State</Th><Th>Tries</Th><Th>Last answer</Th><Th screenReaderText="Actions" /></Tr></Thead>
              <Tbody>
                {page.items.map((d) => {
                  const last = d.last.at(-1);
                  return (
                    <Tr key={d.sequence}>
                      <Td dataLabel="Event">{shown(d.type, 60)}</Td>
                      <Td dataLabel="Made"><Ago at={d.created} /></Td>
                      <Td dataLabel="State">{words(d.state)}</Td>
                      <Td dataLabel="Tries" className="om-number">{d.tries}</Td>
                      <Td dataLabel="Last answer" modifier="breakWord">{last ? (last.status ? `status ${last.status}` : shown(last.error ?? '–', 200)) : '–'}</Td>
                      <Td><Button variant="link" isInline onClick={() => resend.start(d.sequence)}>Send again</Button></Td>
                    </Tr>
                  );
                })}
              </Tbody>
            </Table>
          )}
        </Loaded>
      </ModalBody>
      <ModalFooter><Button variant="link" onClick={close}>Close</Button></ModalFooter>
    </Modal>
  );
}
