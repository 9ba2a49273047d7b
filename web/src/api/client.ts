import createFetchClient, { type Middleware } from 'openapi-fetch';
import createQueryClient from 'openapi-react-query';
import { QueryClient } from '@tanstack/react-query';
import type { paths } from './generated/schema';
import { problemOf, ProblemError } from './problem';
import { pacing } from './refetch';
import { authorize, signedOut } from './session';

const asSomebody: Middleware = {
  onRequest({ request }) {
    authorize(request.headers);
    // A request that got lost on its way back may be sent again by the browser: it must not make a second thing.
    if (request.method === 'POST') request.headers.set('Idempotency-Key', crypto.randomUUID());
    return request;
  },
  async onResponse({ response }) {
    if (response.ok) return;
    const error = await problemOf(response);
    if (response.status === 401) signedOut(error.problem);
    throw error;
  },
};

/** client makes calls; their failures are ProblemErrors. */
export const client = createFetchClient<paths>({
  querySerializer: { array: { style: 'form', explode: false } },
  fetch: (request) => fetch(request),
});
client.use(asSomebody);

/** api is the same as hooks. */
export const api = createQueryClient(client);

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // Events say when something changed; this is for what comes without one.
      staleTime: 10_000,
      refetchInterval: (query) => pacing(query.queryKey),
      retry: (failures, error) => failures < 2 && !(error instanceof ProblemError && error.problem.status < 500),
    },
  },
});

/** fetchBlob gets a picture or a file. */
export async function fetchBlob(path: string, signal?: AbortSignal): Promise<Blob> {
  const headers = new Headers();
  authorize(headers);
  const response = await fetch(path, { headers, signal });
  if (!response.ok) throw await problemOf(response);
  return response.blob();
}
