import { useSyncExternalStore } from 'react';
import { usePreferences } from '../app/preferences';
import { ago, clock, isSet } from '../format/time';

// One clock for all: many times on a page, one timer.
let now = new Date();
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
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

/** Ago shows how long ago a time was; when it was is at hand. */
export function Ago({ at, none = 'never' }: { at: string | undefined; none?: string }) {
  const now = useNow();
  if (!isSet(at)) return <>{none}</>;
  const date = new Date(at);
  return (
    <time dateTime={at} title={`${clock(date)}, ${clock(date, 'UTC')}`}>
      {ago(date, now)}
    </time>
  );
}
