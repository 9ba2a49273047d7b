import { Card, CardBody, CardTitle, Content } from '@patternfly/react-core';
import { api } from '../../api/client';
import type { DiskDiff } from '../../api/generated/schema';
import { heat } from '../../app/heat';
import { bytes, count } from '../../format/amount';
import { words } from '../../format/text';
import { Loaded } from '../../parts/Loaded';
import { Name } from '../../parts/Name';
import { Nothing } from '../../parts/Nothing';

/** Compare shows where two restpoints differ. Which was chosen first does not matter to the map, only to added and removed. */
export function Compare({ from, to }: { from: string; to: string }) {
  const query = api.useQuery('get', '/api/v1/restpoints/{restpoint}/diff', { params: { path: { restpoint: to }, query: { from } } },
    { staleTime: Infinity, refetchInterval: false });
  return (
    <Card className="om-gap">
      <CardTitle component="h2">What changed between the two</CardTitle>
      <CardBody>
        <Loaded query={query}>
          {(disks) => disks.length === 0
            ? <Nothing title="Neither has a disk">There is nothing to compare.</Nothing>
            : disks.map((d) => <DiskHeat key={d.disk} d={d} />)}
        </Loaded>
      </CardBody>
    </Card>
  );
}

function DiskHeat({ d }: { d: DiskDiff }) {
  const part = d.map.length > 0 ? d.size / d.map.length : 0;
  const touched = d.map.filter((n) => n > 0).length;
  const text = d.changed === 0 ? 'nothing changed' : `${bytes(d.changed)} of ${bytes(d.size)} changed, in ${count(d.chunks, 'chunk')}, in ${touched} of ${d.map.length} parts of the disk`;
  return (
    <section>
      <Content component="h3"><Name text={d.name} /></Content>
      <Content component="p">{words(d.change)}: {text}.</Content>
      {d.changed > 0 && (
        <div className="om-heat" role="img" aria-label={`Map of the disk from its begin to its end: ${text}`}>
          {d.map.map((n, i) => <span key={i} className={`om-heat-${heat(n, part)}`} title={n > 0 ? `from ${bytes(i * part)}: ${bytes(n)}` : undefined} />)}
        </div>
      )}
    </section>
  );
}
