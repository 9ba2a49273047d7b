import { Card, CardBody, CardTitle, Content } from '@patternfly/react-core';
import type { FleetSummary } from '../../api/generated/schema';
import { bytes, rate } from '../../format/amount';

/** Throughput is what cycles that run now put into staging. */
export function Throughput({ summary }: { summary: FleetSummary }) {
  const running = summary.replicating;
  return (
    <Card isFullHeight>
      <CardTitle component="h2">Copying now</CardTitle>
      <CardBody>
        <div className="om-big">{rate(summary.throughput)}</div>
        <Content component="p">into staging, by {running.toLocaleString('en')} {running === 1 ? 'machine' : 'machines'}.{' '}
          {bytes(summary.backlog)} are in no restpoint yet.</Content>
      </CardBody>
    </Card>
  );
}
