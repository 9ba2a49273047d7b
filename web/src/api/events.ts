import { useSyncExternalStore } from 'react';
import type { QueryClient } from '@tanstack/react-query';
import { EventParser } from './eventparser';
import type { ChangeEvent } from './generated/schema';
import { blindly, Refetcher } from './refetch';
import { problemOf } from './problem';
import { authorize, signedOut } from './session';

/** Liveness says whether what is shown follows the master. */
export type Liveness = 'connecting' | 'live' | 'lost';

let liveness: Liveness = 'connecting';
const listeners = new Set<() => void>();

function become(next: Liveness): void {
  liveness = next;
  for (const listener of listeners) listener();
}

export function useLiveness(): Liveness {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => liveness,
  );
}

/** Heartbeats come every 15 s: after three that did not, the connection is dead, whatever the browser thinks. */
const silence = 46_000;
const firstPause = 1_000;
const longestPause = 30_000;

/** follow listens to the master's changes until the signal aborts, and has shown data read again when it changed. One runs in each tab. */
export async function follow(queries: QueryClient, signal: AbortSignal): Promise<void> {
  const parser = new EventParser();
  const refetcher = new Refetcher(queries);
  let pause = firstPause;
  const blind = setInterval(() => liveness === 'lost' && refetcher.everything(), blindly);
  signal.addEventListener('abort', () => {
    clearInterval(blind);
    refetcher.stop();
  });
  while (!signal.aborted) {
    const missed = parser.lastId === ''; // what changed between the first answers and now is told by nobody
    try {
      await listen(parser, signal, (event) => refetcher.changed(event), () => {
        become('live');
        pause = firstPause;
        if (missed) refetcher.everything();
      });
    } catch {
      // What went wrong does not matter: the way on is the same.
    }
    if (signal.aborted) break;
    become('lost');
    await sleep(pause * (0.5 + Math.random()), signal);
    pause = Math.min(pause * 2, longestPause);
  }
  become('connecting');
}

async function listen(parser: EventParser, signal: AbortSignal, told: (event: ChangeEvent) => void, opened: () => void): Promise<void> {
  const silent = new AbortController();
  let watchdog = setTimeout(() => silent.abort(), silence);
  try {
    const headers = new Headers({ Accept: 'text/event-stream' });
    authorize(headers);
    if (parser.lastId) headers.set('Last-Event-ID', parser.lastId);
    const response = await fetch('/api/v1/events', { headers, cache: 'no-store', signal: AbortSignal.any([signal, silent.signal]) });
    if (response.status === 401) signedOut((await problemOf(response)).problem);
    if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(() => silent.abort(), silence);
      for (const event of parser.push(value)) told(JSON.parse(event.data) as ChangeEvent);
    }
  } finally {
    clearTimeout(watchdog);
    silent.abort();
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
