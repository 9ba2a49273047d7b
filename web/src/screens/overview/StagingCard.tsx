import { Alert, Card, CardBody, CardTitle, Content } from '@patternfly/react-core';
import { Link } from '@tanstack/react-router';
import { api } from '../../api/client';
import { usePreferences } from '../../app/preferences';
import { monthly, saved } from '../../app/staging';
import { bytes, count } from '../../format/amount';
import { Loaded } from '../../parts/Loaded';

/** StagingCard is what the bucket holds, what it costs, and what is saved. */
export function StagingCard() {
  const { price, currency } = usePreferences();
  const query = api.useQuery('get', '/api/v1/staging', {}, { refetchInterval: 60_000 });
  return (
    <Card isFullHeight>
      <CardTitle component="h2"><Link to="/nodes">Staging</Link></CardTitle>
      <CardBody>
        <Loaded query={query}>
          {(s) => (
            <>
              {!s.recovery_key && <Alert isInline isPlain variant="danger" component="h3" title="No recovery key is saved"><Link to="/nodes">Make one</Link></Alert>}
              <div className="om-big">{bytes(s.bytes)}</div>
              <Content component="p">{monthly(s.bytes, price, currency)} a month at {currency}{price} per GiB. {count(s.restpoints.count, 'restpoint')}.</Content>
              <Content component="p">Saved: {saved(s)}.</Content>
            </>
          )}
        </Loaded>
      </CardBody>
    </Card>
  );
}
