import { Card, CardBody, CardTitle, Gallery, GalleryItem } from '@patternfly/react-core';
import { useQueries } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { api } from '../../api/client';
import type { MachineSearch } from '../../app/machinesearch';
import { LifeState, ReplicationState } from '../../parts/states';

const replication = ['stalled', 'disconnected', 'lagging', 'initial-sync', 'rescanning', 'enrolled', 'held', 'paused', 'protected'];
const life = ['not-ready', 'ready-to-test', 'testing', 'ready-for-cutover', 'cutting-over', 'live', 'finalized', 'rolled-back'];

/** Counts say how many machines are in each state of both axes. States that none is in are left out. */
export function Counts({ total }: { total: number }) {
  return (
    <Card>
      <CardTitle component="h2">{total.toLocaleString('en')} {total === 1 ? 'machine' : 'machines'}</CardTitle>
      <CardBody>
        <Axis of="replication" states={replication} />
        <Axis of="life" states={life} />
      </CardBody>
    </Card>
  );
}

function Axis({ of, states }: { of: 'replication' | 'life'; states: string[] }) {
  // The totals of lists of one machine each: the master counts, and no list of all comes here.
  const counts = useQueries({
    queries: states.map((s) => api.queryOptions('get', '/api/v1/machines', { params: { query: { [of]: [s], limit: 1 } } })),
  });
  const Label = of === 'life' ? LifeState : ReplicationState;
  return (
    <Gallery hasGutter minWidths={{ default: '9rem' }} className="om-gap" role="list" aria-label={of === 'life' ? 'By stage of life' : 'By state of replication'}>
      {states.map((s, i) => {
        const n = counts[i]?.data?.total ?? 0;
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
