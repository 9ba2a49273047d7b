import type { QueryClient } from '@tanstack/react-query';
import type { ChangeEvent } from './generated/schema';

/** What shows things of a kind, by the beginning of its path in the API. */
const shownBy: Record<string, string[]> = {
  machine: ['/api/v1/machines', '/api/v1/summary', '/api/v1/projects'],
  restpoint: ['/api/v1/machines', '/api/v1/summary', '/api/v1/restpoints'],
  session: ['/api/v1/machines', '/api/v1/summary', '/api/v1/sessions'],
  launch: ['/api/v1/launches', '/api/v1/machines', '/api/v1/summary'],
  job: ['/api/v1/jobs', '/api/v1/machines'], // standing volumes are brought up to date by jobs
  node: ['/api/v1/nodes'],
  operation: ['/api/v1/operations'],
  project: ['/api/v1/projects'],
  token: ['/api/v1/tokens'],
  user: ['/api/v1/users', '/api/v1/tokens'],
  'session-ended': ['/api/v1/me'],
  'enrolment-token': ['/api/v1/enrolment-tokens'],
};

/**
 * Everything that changes there comes with an event, progress included, so it is never read by the clock. Of others some change without one: what machines and
 * nodes are is also a matter of time, and nobody tells of users, of the audit log or of the bucket.
 */
const told = ['/api/v1/launches', '/api/v1/jobs', '/api/v1/sessions', '/api/v1/restpoints', '/api/v1/machines/{machine}/restpoints', '/api/v1/machines/{machine}/sessions',
  '/api/v1/tokens', '/api/v1/enrolment-tokens'];

/** How often what comes without events is read, and everything while there is no stream, in ms. */
export const blindly = 20_000;

/** pacing is how often the clock has a query read again. */
export function pacing(key: readonly unknown[]): number | false {
  const path = key[1];
  return typeof path === 'string' && told.some((t) => path === t || path.startsWith(t + '/')) ? false : blindly;
}

/** An event in a storm waits for others: what it brings is read again at most that often, in ms. */
const pace = 1_000;
const moment = 100;

/** touches reports whether what a query shows may have changed. Its key is [method, path, init], as openapi-react-query makes them. */
export function touches(key: readonly unknown[], event: ChangeEvent): boolean {
  const path = key[1];
  if (typeof path !== 'string') return false;
  const starts = shownBy[event.kind] ?? [`/api/v1/${event.kind}s`];
  if (!starts.some((s) => path === s || path.startsWith(s + '/'))) return false;
  const of = (key[2] as { params?: { path?: Record<string, unknown> } } | undefined)?.params?.path ?? {};
  const itself = of[event.kind];
  if (event.id && itself !== undefined && itself !== event.id) return false;
  return !event.machine || of['machine'] === undefined || of['machine'] === event.machine;
}

/** Refetcher reads again what events say has changed. */
export class Refetcher {
  private waiting: ChangeEvent[] = [];
  private all = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private last = 0;

  constructor(private readonly queries: QueryClient) {}

  changed(event: ChangeEvent): void {
    if (event.kind === 'gap') this.all = true;
    else this.waiting.push(event);
    this.soon();
  }

  /** everything is read again: nobody knows what was missed. */
  everything(): void {
    this.all = true;
    this.soon();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.waiting = [];
  }

  private soon(): void {
    this.timer ??= setTimeout(() => this.flush(), Math.max(moment, this.last + pace - Date.now()));
  }

  private flush(): void {
    const { waiting, all } = this;
    this.waiting = [];
    this.all = false;
    this.timer = undefined;
    this.last = Date.now();
    void this.queries.invalidateQueries(all ? undefined : { predicate: (q) => waiting.some((e) => touches(q.queryKey, e)) });
  }
}
