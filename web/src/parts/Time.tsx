import { useMemo, useSyncExternalStore } from 'react';
import { usePreferences } from '../app/preferences';
import { ago, clock, isSet } from '../format/time';

// One clock for all: many times on a page, one timer.
let now = new Date();
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (timer === undefined) now = new Date(); // it stood still while nobody looked
  timer ??= setInterval(() => {
    now = new Date();
    for (const l of listeners) l();
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** useNow is the time, a second exact. */
export function useNow(): Date {
  return useSyncExternalStore(subscribe, () => now);
}

/** Time shows a time in the viewer's zone, or in UTC if he prefers that; the other one is at hand. */
export function Time({ at, none = 'never' }: { at: string | undefined; none?: string }) {
  const { utc } = usePreferences();
  if (!isSet(at)) return <>{none}</>;
  const date = new Date(at);
  const local = clock(date);
  const universal = clock(date, 'UTC');
  return (
    <time dateTime={at} title={utc ? local : universal}>
      {utc ? universal : local}
    </time>
  );
}

/** Ago shows how long ago a time was; when it was is at hand. It is drawn again only when it would say something else. */
export function Ago({ at, none = 'never' }: { at: string | undefined; none?: string }) {
  const date = useMemo(() => (isSet(at) ? new Date(at) : undefined), [at]);
  const said = useSyncExternalStore(subscribe, () => date && ago(date, now));
  const title = useMemo(() => date && `${clock(date)}, ${clock(date, 'UTC')}`, [date]);
  if (!date) return <>{none}</>;
  return <time dateTime={at} title={title}>{said}</time>;
}
