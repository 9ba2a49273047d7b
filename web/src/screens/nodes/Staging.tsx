import { useState } from 'react';
import { Alert, Button, Content, DescriptionList } from '@patternfly/react-core';
import { api, client } from '../../api/client';
import type { StagingStats } from '../../api/generated/schema';
import { useAct } from '../../app/act';
import { usePreferences } from '../../app/preferences';
import { monthly, saved } from '../../app/staging';
import { bytes, count, percent } from '../../format/amount';
import { Command } from '../../parts/Command';
import { Confirm } from '../../parts/Confirm';
import { Loaded } from '../../parts/Loaded';
import { Operations } from '../../parts/Operations';
import { Time } from '../../parts/Time';
import { Figure } from '../machine/Figures';

const runs = {
  check: { label: 'Check', text: 'Compares the index with the bucket.' },
  'check-deep': { label: 'Check deep', text: 'Compares also what each pack lists. It reads every pack’s footer.' },
  gc: { label: 'Collect garbage', text: 'Deletes what no restpoint needs.' },
  'rebuild-index': { label: 'Rebuild the index', text: 'Makes the index anew from the bucket alone.' },
} as const;
type Run = keyof typeof runs;

/** Staging says what is in the bucket, and looks after it. */
export function Staging({ admin }: { admin: boolean }) {
  const query = api.useQuery('get', '/api/v1/staging', {}, { refetchInterval: 60_000 });
  return (
    <>
      <Loaded query={query}>{(s) => <Stats s={s} admin={admin} />}</Loaded>
      {admin && <Runs />}
      <Operations kinds={Object.keys(runs).map((r) => `staging-${r}`)} />
    </>
  );
}

function Stats({ s, admin }: { s: StagingStats; admin: boolean }) {
  const { price, currency } = usePreferences();
  return (
    <>
      {!s.recovery_key && <Recovery admin={admin} />}
      {s.restpoints_damaged > 0 && (
        <Alert isInline variant="danger" title={`${count(s.restpoints_damaged, 'restpoint is', 'restpoints are')} damaged`}>
          Something that they need cannot be read. Run a deep check to see what; the next cycles send again what sources still have.
        </Alert>
      )}
      <DescriptionList isCompact columnModifier={{ default: '1Col', md: '2Col', xl: '3Col' }} className="om-gap">
        <Figure term="In the bucket">{bytes(s.bytes)} in {count(s.objects, 'object')}</Figure>
        <Figure term="Costs a month">{monthly(s.bytes, price, currency)} at {currency}{price} per GiB (see Settings)</Figure>
        <Figure term="Restpoints">{s.restpoints.count.toLocaleString('en')} of {count(s.machines, 'machine')}</Figure>
        <Figure term="Full images would take">{bytes(s.logical_bytes)}</Figure>
        <Figure term="Saved">{saved(s)}</Figure>
        <Figure term="Proven by a node">{percent(s.proven_share, 1)} % of the bytes</Figure>
        <Figure term="Damaged">{s.damaged.count === 0 ? 'nothing' : `${count(s.damaged.count, 'entry', 'entries')}, ${bytes(s.damaged.bytes)}`}</Figure>
        <Figure term="Counted"><Time at={s.counted} /></Figure>
      </DescriptionList>
    </>
  );
}

function Recovery({ admin }: { admin: boolean }) {
  const [key, setKey] = useState<string>();
  const make = useAct(() => client.POST('/api/v1/staging/recovery-key'), { failed: 'No recovery key was made' });
  if (key) {
    return (
      <Alert isInline variant="warning" title="Save this key now: it is shown once">
        <Command label="the recovery key" text={key} />
        <Content component="p">With it the bucket can be opened when the master is lost. Keep it offline, away from the bucket and the master.</Content>
      </Alert>
    );
  }
  return (
    <Alert isInline variant="danger" title="No recovery key is saved"
      actionLinks={admin && <Button variant="link" isInline isLoading={make.busy} onClick={() => void make.run().then(({ data }) => setKey(data?.key), () => undefined)}>Make one</Button>}>
      If the master’s data directory is lost, so is everything in staging. {admin ? '' : 'Ask an admin to make one.'}
    </Alert>
  );
}

function Runs() {
  const [asking, setAsking] = useState<Run>();
  const start = useAct((action: Run) => client.POST('/api/v1/staging/{action}', { params: { path: { action } } }), { done: 'It was started', failed: 'It was not started' });
  return (
    <div className="om-actions om-gap">
      {(Object.keys(runs) as Run[]).map((r) => (
        <Button key={r} variant="secondary" isDisabled={start.busy} onClick={() => (r === 'rebuild-index' ? setAsking(r) : start.start(r))} title={runs[r].text}>{runs[r].label}</Button>
      ))}
      {asking && (
        <Confirm title="Rebuild the index?" label="Rebuild it" danger name="rebuild" close={() => setAsking(undefined)} act={() => start.run(asking)}>
          <Content component="p">{runs[asking].text} It reads the footer of every pack, and is meant for an index that is lost or wrong. What the bucket does not hold (users, tokens,
            settings of machines) is not touched.</Content>
        </Confirm>
      )}
    </div>
  );
}
