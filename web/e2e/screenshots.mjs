// Writes one picture of each screen into docs/images, from real machines that replicate.
import { mkdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { until, World } from './world.mjs';

const out = new URL('../../docs/images/', import.meta.url).pathname;
mkdirSync(out, { recursive: true });
const w = await World.open();
try {
  const ids = {};
  const machine = (name) => w.call('GET', `/api/v1/machines/${ids[name]}`);
  const add = async (name, group) => {
    const { id: token, token: text } = await w.call('POST', '/api/v1/enrolment-tokens', { kind: 'agent' });
    const disk = w.disk(`${name}.img`, 32);
    w.agent(name, text, disk);
    ids[name] = await until(`${name} enrols`, async () => (await w.call('GET', '/api/v1/enrolment-tokens')).items.find((t) => t.id === token)?.used_by[0]?.split('/').at(-1));
    await until(`${name} has a restpoint`, async () => (await machine(name)).last_restpoint);
    for (let i = 1; i < 4; i++) {
      const before = (await machine(name)).restpoints;
      w.scribble(disk, i * 7);
      await w.call('POST', `/api/v1/machines/${ids[name]}/sync`);
      await until('the next restpoint', async () => (await machine(name)).restpoints > before);
    }
    await w.call('PATCH', `/api/v1/machines/${ids[name]}`, { group, tags: [group === 'shop' ? 'prod' : 'internal'] }, { 'If-Match': '*' });
  };
  await Promise.all([['web-1', 'shop'], ['web-2', 'shop'], ['db-1', 'shop'], ['mail', 'office'], ['files', 'office']].map(([name, group]) => add(name, group)));
  await w.call('POST', `/api/v1/machines/${ids.files}/pause`);
  const launch = await w.call('POST', '/api/v1/launches', {
    kind: 'test', machine: ids['web-1'], template: { as_is: true, cpus: 1, memory: 128 << 20, checks: [{ kind: 'screenshot' }] },
  });
  await until('the test runs', async () => ['running', 'failed'].includes((await w.call('GET', `/api/v1/launches/${launch.id}`)).state), 240_000);
  const points = await w.call('GET', `/api/v1/machines/${ids['db-1']}/restpoints`);
  const page = await w.page({ viewport: { width: 1360, height: 860 } });
  await w.signIn(page);
  const shoot = async (name, path, prepare) => {
    await page.goto(w.url + path);
    await page.getByRole('heading', { level: 1 }).waitFor();
    await until('nothing loads', async () => (await page.locator('[aria-busy=true]').count()) === 0);
    await prepare?.();
    await sleep(600); // fonts, charts
    await page.screenshot({ path: `${out}${name}.png` });
    console.log(`docs/images/${name}.png`);
  };
  await shoot('overview', '/overview');
  await shoot('machines', '/machines');
  await shoot('machine', `/machines/${ids['db-1']}`, () => page.getByRole('tab', { name: 'Replication' }).click());
  await shoot('add-machine', '/add-machine', () => page.getByRole('button', { name: 'Make the command' }).click());
  await shoot('restpoints', `/machines/${ids['db-1']}/restpoints`, async () => {
    for (const n of [0, 1]) await page.getByRole('checkbox', { name: /Compare restpoint/ }).nth(n).check();
    await page.getByText('What changed between the two').waitFor();
    await sleep(1500);
  });
  await shoot('restpoint', `/restpoints/${points.items[0].id}`);
  await shoot('launches', '/launches');
  await shoot('launch', `/launches/${launch.id}`);
  await shoot('launch-template', `/machines/${ids['web-1']}/launch-template`);
  await shoot('providers', '/providers');
  await shoot('nodes', '/nodes');
  await shoot('access', '/access');
  await shoot('settings', '/settings');
  await page.getByRole('button', { name: 'Use the dark theme' }).click();
  await shoot('machines-dark', '/machines');
  await page.setViewportSize({ width: 390, height: 844 });
  await shoot('machine-phone', `/machines/${ids['db-1']}`);
} finally {
  await w.close();
}
