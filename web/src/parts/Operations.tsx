import { Button, Content, Progress } from '@patternfly/react-core';
import { api, client } from '../api/client';
import type { OperationInfo } from '../api/generated/schema';
import { useAct } from '../app/act';
import { percent } from '../format/amount';
import { shown, words } from '../format/text';
import { ProblemAlert } from './ProblemAlert';
import { OperationState } from './states';
import { Ago } from './Time';

const listed = 5;

/** Operations are the last ones of some kinds: what they say as they run, and what became of them. */
export function Operations({ kinds, target }: { kinds: string[]; target?: string }) {
  const query = api.useQuery('get', '/api/v1/operations', { params: { query: { kind: kinds, limit: 50 } } });
  const list = (query.data?.items ?? []).filter((o) => target === undefined || o.target === target).slice(0, listed);
  if (list.length === 0) return null;
  return <>{list.map((o, i) => <Operation key={o.id} listed={o} open={i === 0} />)}</>;
}

function Operation({ listed: l, open }: { listed: OperationInfo; open: boolean }) {
  const query = api.useQuery('get', '/api/v1/operations/{operation}', { params: { path: { operation: l.id } } }, { enabled: open });
  const o = query.data ?? l;
  const cancel = useAct(() => client.POST('/api/v1/operations/{operation}/cancel', { params: { path: { operation: o.id } } }), { failed: 'It was not cancelled' });
  const p = o.progress;
  return (
    <section className="om-gap">
      <Content component="p">
        <OperationState state={o.state} /> {words(o.kind)}{o.target ? ` of ${shown(o.target, 60)}` : ''}, begun <Ago at={o.started} /> by {shown(o.by, 60)}{' '}
        {o.state === 'running' && <Button variant="link" isInline isLoading={cancel.busy} onClick={() => cancel.start()}>Cancel</Button>}
      </Content>
      {o.state === 'running' && p && p.total > 0 && <Progress aria-label={words(o.kind)} value={percent(p.done, p.total)} />}
      {o.problem && <ProblemAlert error={o.problem} title={o.state === 'cancelled' ? 'It was cancelled' : 'It failed'} />}
      {open && o.lines.length > 0 && <div className="om-log" role="log" aria-label="What it said" tabIndex={0}>{o.lines.map((line, i) => <div key={i}>{shown(line, 1000)}</div>)}</div>}
      {open && o.report !== undefined && <pre className="om-log" tabIndex={0} aria-label="Its report">{JSON.stringify(o.report, null, 1).slice(0, 20_000)}</pre>}
    </section>
  );
}
