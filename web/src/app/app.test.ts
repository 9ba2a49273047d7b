import { describe, expect, it } from 'vitest';
import appPaths from '../paths.json';
import { faults } from './catalogue';
import { costOf, money } from './costs';
import { heat } from './heat';
import { stepsOf } from './launches';
import { machineSearch, narrowed } from './machinesearch';
import { nextStep, stageOf, stages } from './nextstep';
import { crumbs, downloadPath, inside } from './paths';
import { monthly, saved } from './staging';

const machine = { replication: 'protected', life: 'ready-to-test', next_step: 'none', life_step: 'openmigrate launch test db', paused: false, last_restpoint: 'r1' };

describe('the next step', () => {
  it.each([
    ['nothing was copied', { replication: 'enrolled', life: 'not-ready', last_restpoint: undefined, reason: 'no restpoint was made yet' }, 'sync'],
    ['it is being copied', { replication: 'initial-sync', life: 'not-ready', last_restpoint: undefined }, 'look'],
    ['it has a restpoint', {}, 'test'],
    ['a test runs', { life: 'testing' }, 'see-launch'],
    ['a test came up', { life: 'ready-for-cutover' }, 'cutover'],
    ['it is being moved', { life: 'cutting-over' }, 'see-launch'],
    ['it has moved', { life: 'live', paused: true, replication: 'disconnected' }, 'see-launch'],
    ['it has moved for good', { life: 'finalized', replication: 'disconnected' }, 'none'],
    ['it was taken back', { life: 'rolled-back' }, 'test'],
    ['it is paused', { paused: true, life: 'ready-for-cutover' }, 'resume'],
    ['it was seen twice', { frozen: 'two hosts', life: 'live' }, 'unfreeze'],
    ['it is not heard of', { replication: 'disconnected', life: 'ready-for-cutover' }, 'look'],
    ['it stalls', { replication: 'stalled', life: 'ready-for-cutover' }, 'look'],
    ['it was shut out', { revoked: true }, 'look'],
    ['it lags, which a cutover mends', { replication: 'lagging', life: 'ready-for-cutover' }, 'cutover'],
    ['a state that is new', { life: 'dancing' }, 'none'],
  ])('%s', (_, part, action) => {
    const step = nextStep({ ...machine, ...part });
    expect(step.action).toBe(action);
    expect(step.label).not.toBe('');
  });
  it('is on the way', () => {
    expect(stageOf('not-ready')).toBe(0);
    expect(stageOf('finalized')).toBe(stages.length - 1);
    expect(stageOf('rolled-back')).toBe(stageOf('ready-to-test'));
  });
});

describe('a search in the address', () => {
  it('is read', () => expect(machineSearch({ search: 'db', life: ['live'], replication: 'lagging', attention: true, sort: '-rpo' }))
    .toEqual({ search: 'db', life: ['live'], replication: ['lagging'], attention: true, sort: '-rpo' }));
  it('may be anything', () => {
    expect(machineSearch({ search: { x: 1 }, life: [null, '', 7, {}], sort: 'size; drop table', attention: 'maybe', more: 1 })).toEqual({ life: ['7'] });
    expect(machineSearch({ search: 'x'.repeat(10_000) }).search).toHaveLength(256);
    expect(machineSearch({ tag: Array.from({ length: 100 }, String) }).tag).toHaveLength(16);
  });
  it('leaves out what is standard', () => expect(machineSearch({ sort: 'name', attention: false })).toEqual({}));
  it('narrows or not', () => {
    expect(narrowed({ sort: '-rpo' })).toBe(false);
    expect(narrowed({ os: 'debian' })).toBe(true);
  });
});

describe('steps of a launch', () => {
  const at = (s: number) => new Date(Date.UTC(2026, 10, 30, 12, 0, s)).toISOString();
  const steps = [{ name: 'pending', started: at(0), ended: at(2) }, { name: 'hydrating', started: at(2) }];
  it('tell what was, is and will be', () => {
    const got = stepsOf({ kind: 'test', state: 'hydrating', steps, template: {} }, new Date(at(12)));
    expect(got.map((s) => [s.name, s.state, s.took])).toEqual([
      ['pending', 'done', 2], ['hydrating', 'now', 10], ['converting', 'to-come', undefined], ['starting', 'to-come', undefined], ['checking', 'to-come', undefined], ['running', 'to-come', undefined],
    ]);
  });
  it('leave out what is not done', () => {
    const names = stepsOf({ kind: 'cutover', state: 'pending', steps: steps.slice(0, 1), template: { as_is: true } }, new Date()).map((s) => s.name);
    expect(names).toEqual(['pending', 'syncing', 'hydrating', 'starting', 'checking', 'running']);
  });
  it('name the one that failed', () => {
    const got = stepsOf({ kind: 'test', state: 'failed', steps: [...steps, { name: 'failed', started: at(9) }], failure: { step: 'hydrating', reason: 'x' }, template: {} }, new Date(at(20)));
    expect(got.map((s) => s.state)).toEqual(['done', 'failed', 'done']);
  });
  it('end where it runs', () => {
    expect(stepsOf({ kind: 'test', state: 'running', steps: [{ name: 'running', started: at(0) }], template: {} }, new Date()).map((s) => s.state)).toEqual(['done']);
  });
});

describe('a launch template', () => {
  const p = { name: 'qemu', kind: 'qemu', types: [{ id: 'small', cpus: 1, memory: 1, firmware: ['bios'], buses: ['nvme'] }], networks: [{ id: 'n1', name: 'lab' }], capabilities: { zones: ['a'], forwards: false } };
  const fields = (t: object, list = [p]) => faults(t, list).map((f) => f.field);
  it('is fine when it is empty or fits', () => {
    expect(fields({})).toEqual([]);
    expect(fields({ provider: 'qemu', type: 'small', firmware: 'bios', bus: 'nvme', network: 'lab', zone: 'a' })).toEqual([]);
  });
  it.each([
    [{ provider: 'aws' }, 'provider'], [{ type: 'huge' }, 'type'], [{ type: 'small', firmware: 'uefi' }, 'firmware'], [{ type: 'small', bus: 'ahci' }, 'bus'], [{ network: 'n9' }, 'network'],
    [{ zone: 'b' }, 'zone'], [{ forward: [22] }, 'forward'], [{ forward: [0] }, 'forward'], [{ cpus: 1.5 }, 'cpus'], [{ memory: 1024 }, 'memory'], [{ type: 'small', cpus: 2 }, 'cpus'],
  ])('%o is refused in %s', (t, field) => expect(fields(t)).toContain(field));
  it('must choose one of several providers, and one that works', () => {
    expect(fields({}, [p, { ...p, name: 'two' }])).toContain('provider');
    expect(faults({}, [{ name: 'qemu', kind: 'qemu', error: 'no QEMU' }])[0]?.text).toContain('no QEMU');
  });
});

describe('small things', () => {
  it('heat shows all that changed', () => {
    expect([heat(0, 100), heat(1, 1e9), heat(50, 100), heat(100, 100), heat(200, 100), heat(1, 0)]).toEqual([0, 1, 2, 4, 4, 4]);
  });
  it('paths', () => {
    expect(crumbs('/')).toEqual([{ name: '/', path: '/' }]);
    expect(crumbs('/etc/ssh').map((c) => c.path)).toEqual(['/', '/etc', '/etc/ssh']);
    expect(inside('/', 'etc')).toBe('/etc');
    expect(inside('/etc', 'a&b')).toBe('/etc/a&b');
    expect(downloadPath('r/1', 0, 1, '/a?b&c=#')).toBe('/api/v1/restpoints/r%2F1/disks/0/download?partition=1&path=%2Fa%3Fb%26c%3D%23');
  });
  it('what staging costs and saves', () => {
    expect(monthly(2 ** 30 * 100, 0.023, '$')).toBe('$2.30');
    expect(monthly(2 ** 40 * 10, 0.023, '€')).toBe('€236');
    expect(saved({ logical_bytes: 0, bytes: 10, dedup_ratio: 0, compression_ratio: 0 })).toBe('nothing yet');
    expect(saved({ logical_bytes: 4096, bytes: 1024, dedup_ratio: 2, compression_ratio: 2 })).toBe('3.00 KiB: 2.0× by deduplication, 2.0× by compression');
  });
  it('the master serves each path of the app', async () => {
    const source = (await import('node:fs')).readFileSync(new URL('./router.tsx', import.meta.url), 'utf8');
    const used = new Set([...source.matchAll(/(?:at\(|path: )'(\/[a-z-]*)/g)].map((m) => m[1]));
    expect(used.size).toBeGreaterThan(8);
    for (const path of used) expect(appPaths).toContain(path);
  });
});

describe('what copies cost', () => {
  const since = '2026-11-30T00:00:00Z';
  const at = new Date('2026-11-30T12:00:00Z');
  it('is volumes and processors', () => {
    const cost = costOf({ volumePrice: 0.1, cpuPrice: 0.05 }, 73 * 2 ** 30, 2, since, at);
    expect(cost?.day).toBeCloseTo(24 * (0.01 + 0.1), 9);
    expect(cost?.soFar).toBeCloseTo(12 * (0.01 + 0.1), 9);
  });
  it('is unknown without prices, and never less than nothing', () => {
    expect(costOf({ volumePrice: 0, cpuPrice: 0.05 }, 2 ** 30, 0, since, at)).toBeUndefined();
    expect(costOf({ volumePrice: 1, cpuPrice: 0 }, 2 ** 30, 0, since, new Date('2026-11-29T00:00:00Z'))?.soFar).toBe(0);
    expect(costOf({ volumePrice: 1, cpuPrice: 0 }, 2 ** 30, 0, '0001-01-01T00:00:00Z', at)?.soFar).toBe(0);
  });
  it('is never nothing when it is not', () => expect([money(0, '$'), money(0.001, '$'), money(1.5, '$'), money(1234.5, '€')]).toEqual(['$0.00', 'below $0.01', '$1.50', '€1235']));
});
