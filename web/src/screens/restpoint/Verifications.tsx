import { Content, Progress } from '@patternfly/react-core';
import { api } from '../../api/client';
import { bytes, percent } from '../../format/amount';
import { shown, words } from '../../format/text';
import { OperationState } from '../../parts/states';
import { Ago } from '../../parts/Time';

const listed = 5;

/** Verifications are the last jobs that nodes did on a restpoint. */
export function Verifications({ restpoint }: { restpoint: string }) {
  const query = api.useQuery('get', '/api/v1/jobs', { params: { query: { restpoint, limit: listed } } });
  if (!query.data || query.data.items.length === 0) return null;
  return (
    <>
      <Content component="h2">Jobs</Content>
      <ul>
        {query.data.items.map((j) => (
          <li key={j.id}>
            <OperationState state={j.state} /> {words(j.kind)}, <Ago at={j.created} />
            {j.progress && j.progress.total > 0 && j.state === 'running' && (
              <Progress aria-label={`${j.kind} of this restpoint`} size="sm" value={percent(j.progress.done, j.progress.total)} />
            )}
            {j.result && `: ${bytes(j.result.bytes)} looked at, ${j.result.damaged} chunks damaged`}
            {j.failure && `: ${shown(j.failure.message, 300)}`}
          </li>
        ))}
      </ul>
    </>
  );
}
