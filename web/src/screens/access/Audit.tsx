import { useState } from 'react';
import { Alert, Button, Content, TextInput, Toolbar, ToolbarContent, ToolbarItem } from '@patternfly/react-core';
import { Table, Tbody, Td, Th, Thead, Tr } from '@patternfly/react-table';
import { keepPreviousData } from '@tanstack/react-query';
import { api, client, fetchBlob } from '../../api/client';
import type { AuditReport, Line } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { shown, words } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';
import { Time } from '../../parts/Time';

/** Audit is who changed what, from where, before and after. Nobody can change it unseen. */
export function Audit({ master }: { master: boolean }) {
  const [trail, setTrail] = useState<string[]>([]);
  const [who, setWho] = useState('');
  const [operation, setOperation] = useState('');
  const params = { params: { query: { limit: 50, cursor: trail.at(-1), who: who || undefined, operation: operation || undefined } } };
  const query = api.useQuery('get', '/api/v1/audit', params, { placeholderData: keepPreviousData });
  return (
    <>
      <Toolbar aria-label="Narrow the log">
        <ToolbarContent>
          <ToolbarItem><TextInput aria-label="Who" placeholder="Who" value={who} onChange={(_, v) => { setWho(v); setTrail([]); }} /></ToolbarItem>
          <ToolbarItem><TextInput aria-label="Operation" placeholder="Operation: pause-machine" value={operation} onChange={(_, v) => { setOperation(v); setTrail([]); }} /></ToolbarItem>
          {master && <ToolbarItem><Prove /></ToolbarItem>}
        </ToolbarContent>
      </Toolbar>
      <Loaded query={query}>
        {(page) => (
          <>
            {page.items.length === 0 ? <Nothing title={page.next_cursor ? 'Nothing on this page' : 'Nothing was changed'}>{page.next_cursor ? 'Older changes may follow.' : 'Every change stands here, once there is one.'}</Nothing> : (
              <Table aria-label="Changes" variant="compact">
                <Thead><Tr><Th>When</Th><Th>Who</Th><Th>What</Th><Th>Before → after</Th><Th>From</Th></Tr></Thead>
                <Tbody>{page.items.map((l) => <Row key={l.sequence} l={l} />)}</Tbody>
              </Table>
            )}
            <Button variant="secondary" size="sm" isDisabled={trail.length === 0} onClick={() => setTrail(trail.slice(0, -1))}>Newer</Button>{' '}
            <Button variant="secondary" size="sm" isDisabled={!page.next_cursor} onClick={() => page.next_cursor && setTrail([...trail, page.next_cursor])}>Older</Button>
          </>
        )}
      </Loaded>
    </>
  );
}

const written = (v: unknown) => (v === undefined || v === null ? '–' : shown(JSON.stringify(v), 300));

function Row({ l }: { l: Line }) {
  return (
    <Tr>
      <Td dataLabel="When"><Time at={l.time} /></Td>
      <Td dataLabel="Who"><Name text={l.who.name} most={40} /> <span className="om-quiet">{shown(l.who.kind, 20)}</span></Td>
      <Td dataLabel="What" modifier="breakWord">{words(shown(l.operation, 60))} <span className="om-quiet">{shown(l.kind, 30)} {shown(l.id ?? '', 60)}</span></Td>
      <Td dataLabel="Before → after" modifier="breakWord"><code>{written(l.before)} → {written(l.after)}</code></Td>
      <Td dataLabel="From">{shown(l.from ?? '–', 60)}</Td>
    </Tr>
  );
}

/** Prove checks the chain of hashes, and gets the log as a file. */
function Prove() {
  const [report, setReport] = useState<AuditReport>();
  const verify = useAct(async () => setReport((await client.GET('/api/v1/audit-all/verify')).data), { failed: 'The log was not checked' });
  const get = useAct(async () => {
    const url = URL.createObjectURL(await fetchBlob('/api/v1/audit-all/export'));
    const link = document.createElement('a');
    link.href = url;
    link.download = 'audit.jsonl';
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }, { failed: 'The log was not exported' });
  return (
    <>
      <Button variant="secondary" isLoading={verify.busy} onClick={() => verify.start()}>Check the chain</Button>{' '}
      <Button variant="secondary" isLoading={get.busy} onClick={() => get.start()}>Export</Button>
      {report && (
        <Alert isInline variant={report.ok ? 'success' : 'danger'} title={report.ok ? `All ${report.sequence.toLocaleString('en')} lines are as they were written` : 'The log was changed'}>
          {report.problem && shown(report.problem, 400)}
          {report.hash && <Content component="p">Keep this elsewhere to prove it later: <code>{report.sequence} {shown(report.hash, 80)}</code></Content>}
        </Alert>
      )}
    </>
  );
}
