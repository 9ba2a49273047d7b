import { Card, CardBody, CardTitle, Content } from '@patternfly/react-core';
import { api } from '../../api/client';
import { bytes, rate } from '../../format/amount';
import { Loaded } from '../../parts/Loaded';

const looked = 500;

/** Throughput is what cycles that run now put into staging. It adds up the machines with the largest backlog, which are those that copy. */
export function Throughput({ total }: { total: number }) {
  const query = api.useQuery('get', '/api/v1/machines', { params: { query: { sort: '-backlog', limit: looked } } });
  return (
    <Card isFullHeight>
      <CardTitle component="h2">Copying now</CardTitle>
      <CardBody>
        <Loaded query={query}>
          {(page) => {
            const running = page.items.filter((m) => m.session);
            return (
              <>
                <div className="om-big">{rate(running.reduce((sum, m) => sum + m.rpo.throughput, 0))}</div>
                <Content component="p">into staging, by {running.length} {running.length === 1 ? 'machine' : 'machines'}{total > looked && ` of the ${looked} with the largest backlog`}.{' '}
                  {bytes(page.items.reduce((sum, m) => sum + m.rpo.backlog, 0))} are in no restpoint yet.</Content>
              </>
            );
          }}
        </Loaded>
      </CardBody>
    </Card>
  );
}
