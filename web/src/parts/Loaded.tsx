import type { ReactNode } from 'react';
import { Skeleton } from '@patternfly/react-core';
import { ProblemAlert } from './ProblemAlert';

interface Query<T> {
  data: T | undefined;
  error: unknown;
  refetch: () => unknown;
}

/** Loaded shows what a query brought; until then that it is on its way, and if it failed, why. What was read before a failure stays to be seen. */
export function Loaded<T>({ query, children }: { query: Query<T>; children: (data: T) => ReactNode }) {
  return (
    <>
      {query.error != null && <ProblemAlert error={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined ? children(query.data) : query.error == null && <Waiting />}
    </>
  );
}

export function Waiting() {
  return (
    <div aria-busy="true" className="om-waiting">
      <Skeleton screenreaderText="Loading" />
      <Skeleton width="66%" />
      <Skeleton width="80%" />
    </div>
  );
}
