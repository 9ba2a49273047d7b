import { useState } from 'react';
import { Button, Content } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { api, client, queries } from '../../api/client';
import type { NodeInfo } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { useRole } from '../../app/role';
import { shown } from '../../format/text';
import { Command } from '../../parts/Command';
import { Confirm } from '../../parts/Confirm';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';
import { NodeState } from '../../parts/states';
import { Ago, Time } from '../../parts/Time';
import { done } from '../../parts/toasts';

/** NodeList shows which hydrators there are and whether they work. */
export function NodeList() {
  const role = useRole();
  const [asking, setAsking] = useState<NodeInfo>();
  const query = api.useQuery('get', '/api/v1/nodes', { params: { query: { limit: 500 } } });
  return (
    <>
      <Loaded query={query}>
        {(page) => page.items.length === 0 ? (
          <Nothing title="No node yet">Restpoints are made, but nobody verifies them, and nothing can be launched. Make a token below and start a node with it.</Nothing>
        ) : (
          <Table aria-label="Nodes" variant="compact">
            <Thead><Tr><Th>Name</Th><Th>State</Th><Th>What to do</Th><Th>Heard of</Th><Th>Version</Th><Th screenReaderText="Actions" /></Tr></Thead>
            <Tbody>
              {page.items.map((n) => (
                <Tr key={n.id}>
                  <Td dataLabel="Name"><Name text={n.name} /></Td>
                  <Td dataLabel="State" modifier="breakWord"><NodeState state={n.state} /> {shown(n.frozen ?? n.revoked ?? '', 200)}</Td>
                  <Td dataLabel="What to do" modifier="breakWord">{n.next_step === 'none' ? '–' : shown(n.next_step, 300)}</Td>
                  <Td dataLabel="Heard of"><Ago at={n.last_seen} /></Td>
                  <Td dataLabel="Version">{shown(n.version, 40)}</Td>
                  <Td>{role.may('admin') && n.state !== 'revoked' && <Button variant="link" isInline aria-label={`Shut out… ${shown(n.name, 40)}`} onClick={() => setAsking(n)}>Shut out…</Button>}</Td>
                </Tr>
              ))}
            </Tbody>
          </Table>
        )}
      </Loaded>
      {role.may('admin') && <AddNode />}
      {asking && (
        <Confirm title="Shut this node out?" label="Shut it out" danger name={asking.name} close={() => setAsking(undefined)} act={async () => {
          await client.POST('/api/v1/nodes/{node}/revoke', { params: { path: { node: asking.id } } });
          done('The node was shut out');
          void queries.invalidateQueries();
        }}>
          <Content component="p">Its certificate is refused from now on, for ever. Jobs that it has begun are done again by another node. Nothing in staging is lost.</Content>
        </Confirm>
      )}
    </>
  );
}

function AddNode() {
  const make = useAct(() => client.POST('/api/v1/enrolment-tokens', { body: { kind: 'node', uses: 1 } }), { failed: 'No token was made' });
  const [made, setMade] = useState<{ token?: string; expires: string }>();
  const add = async () => {
    const { data } = await make.run();
    setMade(data);
  };
  return made?.token ? (
    <div className="om-gap">
      <Command label="the command that starts a node" text={`openmigrate hydrator --token ${made.token} --data-dir /var/lib/openmigrate-hydrator`} />
      <Content component="p">Once, until <Time at={made.expires} />.</Content>
    </div>
  ) : (
    <Button variant="secondary" className="om-gap" isLoading={make.busy} onClick={() => void add().catch(() => undefined)}>Add a node</Button>
  );
}
