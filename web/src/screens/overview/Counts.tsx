import { Card, CardBody, CardTitle, Gallery, GalleryItem } from '@patternfly/react-core';
import { Link } from '@tanstack/react-router';
import type { FleetSummary } from '../../api/generated/schema';
import type { MachineSearch } from '../../app/machinesearch';
import { LifeState, ReplicationState } from '../../parts/states';

const replication = ['stalled', 'disconnected', 'lagging', 'initial-sync', 'rescanning', 'enrolled', 'held', 'paused', 'protected'];
const life = ['not-ready', 'ready-to-test', 'testing', 'ready-for-cutover', 'cutting-over', 'live', 'finalized', 'rolled-back'];

/** Counts say how many machines are in each state of both axes. States that none is in are left out. */
export function Counts({ summary }: { summary: FleetSummary }) {
  const total = summary.machines;
  return (
    <Card>
      <CardTitle component="h2">{total.toLocaleString('en')} {total === 1 ? 'machine' : 'machines'}</CardTitle>
      <CardBody>
        <Axis of="replication" states={replication} counts={summary.replication} />
        <Axis of="life" states={life} counts={summary.life} />
      </CardBody>
    </Card>
  );
}

function Axis({ of, states, counts }: { of: 'replication' | 'life'; states: string[]; counts: Record<string, number> }) {
  const Label = of === 'life' ? LifeState : ReplicationState;
  return (
    <Gallery hasGutter minWidths={{ default: '9rem' }} className="om-gap" role="list" aria-label={of === 'life' ? 'By stage of life' : 'By state of replication'}>
      {states.map((s) => {
        const n = counts[s] ?? 0;
        const search: MachineSearch = { [of]: [s] };
        return n > 0 && (
          <GalleryItem key={s} role="listitem">
            <Link to="/machines" search={search} className="om-big" aria-label={`${n} ${s.replaceAll('-', ' ')}`}>{n.toLocaleString('en')}</Link>
            <div><Label state={s} /></div>
          </GalleryItem>
        );
      })}
    </Gallery>
  );
}
