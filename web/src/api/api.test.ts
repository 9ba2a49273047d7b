import { QueryClient } from '@tanstack/react-query';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EventParser } from './eventparser';
import { asProblem, problemOf, ProblemError } from './problem';
import { follow } from './events';
import { blindly, pacing, Refetcher, touches } from './refetch';

describe('event stream', () => {
  const stream = 'retry: 2000\n: from 41\n\nid: 42\nevent: machine\ndata: {"a":1}\n\n: 43\n\nid: 44\r\nevent: gap\r\ndata: x\r\ndata: y\r\n\r\n';
  const want = [{ id: '42', type: 'machine', data: '{"a":1}' }, { id: '44', type: 'gap', data: 'x\ny' }];
  it('is read whole', () => {
    const p = new EventParser();
    expect(p.push(stream)).toEqual(want);
    expect(p.lastId).toBe('44');
  });
  it('is read however it is cut', () => {
    for (let size = 1; size < 20; size++) {
      const p = new EventParser();
      const got = [];
      for (let i = 0; i < stream.length; i += size) got.push(...p.push(stream.slice(i, i + size)));
      expect(got, `pieces of ${size}`).toEqual(want);
    }
  });
  it('knows from heartbeats how far it is', () => {
    const p = new EventParser();
    p.push(': from 7\n\n');
    expect(p.lastId).toBe('7');
    p.push(': 9\n\n: hello\n\n');
    expect(p.lastId).toBe('9');
  });
  it('gives up on a line without an end', () => {
    const p = new EventParser();
    expect(() => {
      for (let i = 0; i < 100; i++) p.push('x'.repeat(100_000));
    }).toThrow('without an end');
  });
});

describe('what an event touches', () => {
  const list = ['get', '/api/v1/machines', {}];
  const one = ['get', '/api/v1/machines/{machine}', { params: { path: { machine: 'm1' } } }];
  const points = ['get', '/api/v1/machines/{machine}/restpoints', { params: { path: { machine: 'm1' } } }];
  const launches = ['get', '/api/v1/launches', {}];
  it.each([
    ['a machine: the list', list, { kind: 'machine', id: 'm2' }, true],
    ['a machine: itself', one, { kind: 'machine', id: 'm1' }, true],
    ['a machine: no other', one, { kind: 'machine', id: 'm2' }, false],
    ['many machines', one, { kind: 'machine' }, true],
    ['a restpoint: its machine', points, { kind: 'restpoint', id: 'r', machine: 'm1' }, true],
    ['a restpoint: no other machine', points, { kind: 'restpoint', id: 'r', machine: 'm2' }, false],
    ['a launch: launches', launches, { kind: 'launch', id: 'l', machine: 'm1' }, true],
    ['a launch: life of its machine', one, { kind: 'launch', id: 'l', machine: 'm1' }, true],
    ['a launch: itself', ['get', '/api/v1/launches/{launch}', { params: { path: { launch: 'l' } } }], { kind: 'launch', id: 'l', machine: 'm1' }, true],
    ['a launch: no other', ['get', '/api/v1/launches/{launch}', { params: { path: { launch: 'k' } } }], { kind: 'launch', id: 'l', machine: 'm1' }, false],
    ['progress of a session: its machine', one, { kind: 'session', id: 's', machine: 'm1' }, true],
    ['progress of a job: standing volumes of its machine', one, { kind: 'job', id: 'j', machine: 'm1' }, true],
    ['a node: no machines', list, { kind: 'node', id: 'n' }, false],
    ['a kind that is new', ['get', '/api/v1/plans', {}], { kind: 'plan', id: 'p' }, true],
    ['no query of the API', ['template', 'm1'], { kind: 'machine', id: 'm1' }, false],
  ])('%s', (_, key, event, want) => expect(touches(key as unknown[], { sequence: 1, ...event })).toBe(want));
});

describe('the clock', () => {
  it.each(['/api/v1/launches', '/api/v1/launches/{launch}', '/api/v1/jobs', '/api/v1/machines/{machine}/restpoints', '/api/v1/enrolment-tokens'])(
    'reads nothing again that comes with events: %s', (path) => expect(pacing(['get', path, {}])).toBe(false));
  it.each(['/api/v1/machines', '/api/v1/machines/{machine}', '/api/v1/summary', '/api/v1/nodes', '/api/v1/users', '/api/v1/audit'])(
    'reads again what changes without: %s', (path) => expect(pacing(['get', path, {}])).toBe(blindly));
});

describe('following', () => {
  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal('sessionStorage', { getItem: () => null });
  });
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.useRealTimers();
  });
  it('reads everything once the stream is there, and by the clock while it is not', async () => {
    let say: ReadableStreamDefaultController<Uint8Array> | undefined;
    let away = false;
    vi.stubGlobal('fetch', async () => {
      if (away) throw new TypeError('away');
      return new Response(new ReadableStream<Uint8Array>({ start: (c) => void (say = c) }));
    });
    const queries = new QueryClient();
    const invalidate = vi.spyOn(queries, 'invalidateQueries');
    const leave = new AbortController();
    const followed = follow(queries, leave.signal);
    await vi.advanceTimersByTimeAsync(1000);
    expect(invalidate).toHaveBeenCalledExactlyOnceWith(undefined);
    say?.enqueue(new TextEncoder().encode(': from 7\n\n'));
    await vi.advanceTimersByTimeAsync(40_000);
    expect(invalidate).toHaveBeenCalledTimes(1);
    away = true;
    say?.close();
    await vi.advanceTimersByTimeAsync(3 * blindly);
    expect(invalidate.mock.calls.length).toBeGreaterThanOrEqual(3);
    leave.abort();
    await vi.advanceTimersByTimeAsync(1000);
    await followed;
    const ended = invalidate.mock.calls.length;
    await vi.advanceTimersByTimeAsync(3 * blindly);
    expect(invalidate).toHaveBeenCalledTimes(ended);
  });
});

describe('a storm of events', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  it('is read again once a second at most', async () => {
    const queries = new QueryClient();
    const invalidate = vi.spyOn(queries, 'invalidateQueries');
    const r = new Refetcher(queries);
    for (let i = 0; i < 100; i++) {
      r.changed({ sequence: i, kind: 'machine', id: `m${i}` });
      await vi.advanceTimersByTimeAsync(50);
    }
    await vi.advanceTimersByTimeAsync(2000);
    expect(invalidate.mock.calls.length).toBeGreaterThan(3);
    expect(invalidate.mock.calls.length).toBeLessThan(8);
  });
  it('reads everything after a gap, and nothing when it was stopped', async () => {
    const queries = new QueryClient();
    const invalidate = vi.spyOn(queries, 'invalidateQueries');
    const r = new Refetcher(queries);
    r.changed({ sequence: 1, kind: 'gap' });
    await vi.advanceTimersByTimeAsync(200);
    expect(invalidate).toHaveBeenCalledExactlyOnceWith(undefined);
    r.changed({ sequence: 2, kind: 'machine' });
    r.stop();
    await vi.advanceTimersByTimeAsync(5000);
    expect(invalidate).toHaveBeenCalledOnce();
  });
});

describe('failures', () => {
  const problem = { title: 'Conflict', status: 409, code: 'busy', detail: 'it is busy', next: 'wait' };
  it('are the master’s own words', async () => {
    const error = await problemOf(new Response(JSON.stringify(problem), { status: 409, headers: { 'Content-Type': 'application/problem+json' } }));
    expect(error.problem).toEqual(problem);
    expect(asProblem(error).next).toBe('wait');
  });
  it.each([['text/html', '<h1>Bad gateway</h1>'], ['application/json', 'not json'], ['application/json', '{"error":"x"}']])('are explained when they are not: %s', async (type, body) => {
    const error = await problemOf(new Response(body, { status: 502, headers: { 'Content-Type': type } }));
    expect(error).toBeInstanceOf(ProblemError);
    expect(error.code).toBe('not-the-master');
    expect(error.problem.next).toBeTruthy();
  });
  it('always say what to do', () => {
    for (const e of [new TypeError('fetch failed'), new Error('x'), 'x', undefined, { code: 1 }]) expect(asProblem(e).next).toBeTruthy();
  });
});
