// What an operator does, in a browser, against the real thing.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findings } from './axe.mjs';
import { patience, until, World } from './world.mjs';

// Marks that turn the direction of text the master refuses in names; src/format has its own tests for those that come from disks and consoles.
const hostile = `<img src=x onerror=alert(1)>"' \u05d0\u05d1`;
let w, page, disk, id, restpoint;

before(async () => {
  w = await World.open('--oidc-issuer', 'https://id.example.invalid', '--oidc-client-id', 'openmigrate'); // nobody answers there: the master starts all the same
  page = await w.page();
});
after(async () => {
  await w?.close();
});

const machine = () => w.call('GET', `/api/v1/machines/${id}`);

test('the link that the master prints makes the first admin, once', async () => {
  const link = w.link();
  assert.ok(link, 'the master printed no link');
  const visitor = await w.page();
  await visitor.goto(link);
  await visitor.locator('#name').fill('ada');
  await visitor.locator('#password').fill('too short');
  await visitor.getByText('At least 15 characters').waitFor();
  await visitor.locator('#password').fill('correct horse battery');
  await visitor.locator('#again').fill('correct horse battery');
  await visitor.getByRole('button', { name: 'Make me admin' }).click();
  await visitor.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  assert.ok(!visitor.url().includes('oml_'), 'the link stays in the address');
  assert.equal(await visitor.evaluate(() => document.cookie), '', 'a script can read the session');
  await visitor.reload();
  await visitor.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await visitor.getByRole('button', { name: 'Sign out' }).click();
  await visitor.locator('#name').fill('ada');
  await visitor.locator('#secret').fill('wrong password entirely');
  await visitor.getByRole('button', { name: 'Sign in', exact: true }).click();
  await visitor.getByText('This did not let you in').waitFor();
  await visitor.locator('#secret').fill('correct horse battery');
  await visitor.getByRole('button', { name: 'Sign in', exact: true }).click();
  await visitor.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  assert.deepEqual(visitor.complaints, []);
  await visitor.goto('about:blank');
  await visitor.goto(link);
  await visitor.getByText('This link cannot be used').waitFor();
  await visitor.context().close();
});

test('whoever has an account elsewhere is led there, and back to where he was going', async () => {
  const visitor = await w.page();
  await visitor.goto(`${w.url}/machines?search=blue`);
  const button = visitor.getByRole('link', { name: 'Sign in through id.example.invalid' });
  assert.equal(await button.getAttribute('href'), `/login/oidc?return=${encodeURIComponent('/machines?search=blue')}`);
  assert.deepEqual(await findings(visitor), []);
  await button.click();
  await visitor.getByText(/provider/i).first().waitFor();
  assert.match(visitor.url(), /\/login\/oidc/);
  await visitor.context().close();
});

test('a wrong token is refused with the next step, the right one lets in', async () => {
  await page.goto(w.url + '/machines');
  await page.getByRole('button', { name: 'Use an API token' }).click();
  await page.getByLabel('API token').fill('omt_nonsense');
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await page.getByText('This did not let you in').waitFor();
  await page.getByText('Next:').waitFor();
  await w.signIn(page, '/machines');
  await page.getByText('No machines yet').waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
});

test('a machine is added with the one command, and the page becomes the machine', async () => {
  await page.getByRole('link', { name: 'Add a machine' }).first().click();
  await page.getByRole('button', { name: 'Make the command' }).click();
  const command = await page.getByText('openmigrate-agent run --token').first().textContent();
  const token = /--token (\S+)/.exec(command)[1];
  disk = w.disk('disk.img');
  w.agent('db-1', token, disk);
  await page.getByText('has enrolled').waitFor();
  await page.getByRole('link', { name: 'Open it' }).click();
  await page.getByRole('heading', { name: 'db-1', level: 1 }).waitFor();
  id = page.url().split('/').at(-1);
});

test('it replicates before the eyes of the viewer, without a reload', async () => {
  await page.evaluate(() => (globalThis.notReloaded = true));
  await until('it has a restpoint', async () => (await machine()).last_restpoint);
  await page.getByRole('button', { name: 'Launch a test' }).waitFor();
  await page.getByRole('tab', { name: 'Disks' }).click();
  await page.getByText('disk.img').first().waitFor();
  const before = (await machine()).restpoints;
  w.scribble(disk);
  await page.getByRole('tab', { name: 'Settings' }).click();
  await page.getByRole('button', { name: 'Copy now' }).click();
  await until('another restpoint', async () => (await machine()).restpoints > before);
  await page.getByRole('tab', { name: 'Replication' }).click();
  await page.getByText(/Sent by each of the last/).waitFor();
  assert.equal(await page.evaluate(() => globalThis.notReloaded), true);
});

test('settings are changed, and a change that somebody else made meanwhile is not undone', async () => {
  await page.getByRole('tab', { name: 'Settings' }).click();
  await page.getByLabel('Group', { exact: true }).fill('databases');
  await page.getByLabel('Tags').fill('blue prod');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Settings were saved').waitFor();
  assert.deepEqual((await machine()).tags, ['blue', 'prod']);
});

test('a pause shows at once, and resume is then the next step', async () => {
  await page.getByRole('tab', { name: 'Settings' }).click();
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByRole('heading', { name: /Next: resume/ }).waitFor();
  await page.getByRole('button', { name: 'Resume' }).first().click();
  await until('it goes on', async () => !(await machine()).paused);
});

test('machines are searched, sorted and kept as a view by the master', async () => {
  await page.getByRole('navigation', { name: 'Places' }).getByRole('link', { name: 'Machines' }).click();
  await page.getByRole('textbox', { name: /Search name/ }).fill('nowhere');
  await page.getByText('No machine is like that').waitFor();
  await page.getByRole('textbox', { name: /Search name/ }).fill('blue');
  await page.getByRole('link', { name: 'db-1' }).waitFor();
  await until('the search is in the address', () => page.url().includes('search=blue'));
  await page.getByRole('button', { name: 'Lag' }).click();
  await until('the sort is in the address', () => page.url().includes('sort=lag'));
  await page.getByRole('button', { name: 'Views' }).click();
  await page.getByRole('menuitem', { name: /Keep this search/ }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('Blue ones');
  await page.getByRole('dialog').getByRole('button', { name: 'Keep' }).click();
  await page.getByRole('button', { name: 'Blue ones' }).waitFor();
});

test('the history is read, compared, verified and pinned', async () => {
  await page.goto(`${w.url}/machines/${id}/restpoints`);
  const boxes = page.getByRole('checkbox', { name: /Compare restpoint/ });
  await boxes.nth(1).waitFor();
  await boxes.nth(0).check();
  await boxes.nth(1).check();
  await page.getByText(/What changed between the two/).waitFor();
  await page.getByText(/(Changed|Same): /).first().waitFor();
  await page.getByRole('list', { name: /Restpoints, newest first/ }).getByRole('link').first().click();
  await page.getByRole('button', { name: 'Verify' }).click();
  await page.getByText(/0 chunks damaged/).waitFor();
  await page.getByRole('button', { name: 'Pin' }).click();
  await page.getByText('pinned: it is never removed').waitFor();
  assert.ok(await page.getByRole('button', { name: /Remove/ }).isDisabled());
});

test('the launch template is edited against the catalogue of the provider', async () => {
  await page.goto(`${w.url}/machines/${id}/launch-template`);
  await page.getByLabel('Processors').fill('1.5');
  await page.getByText('Want a whole number from 1 to 4096.').waitFor();
  assert.ok(await page.getByRole('button', { name: 'Save' }).isDisabled());
  await page.getByLabel('Processors').fill('1');
  await page.getByLabel('Memory in MiB').fill('128');
  await page.getByLabel(/Change nothing in the copy/).check(); // the disk holds noise: there is no system in it to convert
  await page.getByRole('button', { name: 'Add a check' }).click();
  await page.locator('#check-0').selectOption('screenshot');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('The template was saved').waitFor();
  assert.equal((await w.call('GET', `/api/v1/machines/${id}/launch-template`)).checks[0].kind, 'screenshot');
});

/** launchState waits until the launch on the page is in a state. */
const launchState = async (state) => {
  const launch = page.url().split('/').at(-1);
  let last;
  await until(`the launch is ${state}`, async () => {
    last = await w.call('GET', `/api/v1/launches/${launch}`);
    if (last.failure) throw new Error(JSON.stringify(last.failure));
    return last.state === state;
  }, 4 * patience);
};

test('a test is launched, followed step by step, seen, and ended', async () => {
  await page.goto(`${w.url}/machines/${id}`);
  await page.getByRole('button', { name: 'Launch a test' }).click();
  await page.getByRole('dialog').getByText(/The source goes on/).waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Launch a test' }).click();
  await page.getByRole('heading', { name: /Test of/, level: 1 }).waitFor();
  await page.getByRole('listitem', { name: /Hydrating/ }).or(page.getByText('Hydrating')).first().waitFor();
  await launchState('running');
  await page.getByRole('img', { name: /screen showed/ }).waitFor();
  assert.ok(await page.getByRole('img', { name: /screen showed/ }).evaluate((i) => i.naturalWidth > 100), 'the screenshot is no picture');
  await page.getByText('Passed').first().waitFor();
  assert.deepEqual(await findings(page), []);
  const asked = [];
  const listen = (r) => asked.push(new URL(r.url()).pathname);
  page.on('request', listen);
  await sleep(25_000); // longer than anything that is read by the clock
  page.off('request', listen);
  const launch = page.url().split('/').at(-1);
  assert.deepEqual(asked.filter((path) => path === `/api/v1/launches/${launch}`), [], 'the launch was read again, and nothing told of it');
  await page.getByRole('button', { name: /End the test/ }).click();
  await page.getByRole('dialog').getByText('What is lost:').waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'End the test' }).click();
  await launchState('reverted');
});

test('the machine is cut over, live, and taken back', async () => {
  await page.goto(`${w.url}/machines/${id}`);
  await page.getByRole('button', { name: 'Cut over' }).click();
  const go = page.getByRole('dialog').getByRole('button', { name: 'Cut over' });
  assert.ok(await go.isDisabled());
  await page.getByRole('dialog').getByRole('textbox').fill('db-1');
  await go.click();
  await page.getByRole('heading', { name: /Cutover of/, level: 1 }).waitFor();
  await launchState('running');
  await page.getByRole('button', { name: /Finalize/ }).click();
  await page.getByRole('dialog').getByText('the way back').waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: /Revert/ }).click();
  await page.getByRole('dialog').getByText('What is lost:').waitFor();
  await page.getByRole('dialog').getByRole('textbox').fill('db-1');
  await page.getByRole('dialog').getByRole('button', { name: 'Revert' }).click();
  await launchState('reverted');
  await page.getByRole('link', { name: 'db-1' }).click();
  await page.getByText('Rolled back').first().waitFor();
});

test('volumes that stand by are listed with what they cost', async () => {
  const template = () => w.call('GET', `/api/v1/machines/${id}/launch-template`);
  const set = async (warm) => w.call('PUT', `/api/v1/machines/${id}/launch-template`, { ...(await template()), warm }, { 'If-Match': '*' });
  await page.goto(`${w.url}/settings`);
  await page.getByLabel(/What volumes at a provider cost/).fill('100000');
  await page.goto(`${w.url}/launches`);
  await page.getByText('No volumes stand by').waitFor();
  await set(true);
  const row = page.getByRole('grid', { name: 'Standing volumes' }).getByRole('row', { name: /db-1/ });
  await row.getByText('Current').waitFor({ timeout: 3 * patience }); // volumes are looked after twice a minute
  await row.getByText(/a day/).waitFor();
  assert.deepEqual(await findings(page), []);
  await set(false);
  await page.getByText('No volumes stand by').waitFor({ timeout: 3 * patience });
});

test('machines say how their last restpoint is, and how their last test went', async () => {
  await page.goto(`${w.url}/machines`);
  const row = page.getByRole('row', { name: /db-1/ });
  await row.getByRole('link', { name: 'Passed' }).waitFor();
  assert.match(await row.getByRole('gridcell').filter({ hasText: /Fuzzy|Crash|Filesystem/ }).first().textContent(), /ago|just now/);
});

test('an older restpoint is rolled back to, and let go again', async () => {
  await page.goto(`${w.url}/machines/${id}/restpoints`);
  await page.getByRole('button', { name: /Roll back to restpoint/ }).last().click();
  await page.getByRole('dialog').getByText(/what was written\s+after this restpoint is not in it/).waitFor();
  await page.getByRole('dialog').getByRole('textbox').fill('db-1');
  await page.getByRole('dialog').getByRole('button', { name: 'Roll back' }).click();
  await page.getByRole('heading', { name: /Cutover of/, level: 1 }).waitFor();
  await launchState('running');
  await page.getByRole('button', { name: /Revert/ }).click();
  await page.getByRole('dialog').getByRole('textbox').fill('db-1');
  await page.getByRole('dialog').getByRole('button', { name: 'Revert' }).click();
  await launchState('reverted');
});

/** wide reports whether the page has grown beyond the window. */
const wide = (p) => p.evaluate(() => document.documentElement.scrollWidth > window.innerWidth + 1);
const ran = (p) => p.evaluate(() => globalThis.ran === true || document.querySelector('img[src="x"]') !== null);

test('a name full of tricks is shown, and does nothing', async () => {
  await w.call('POST', '/api/v1/tokens', { name: hostile, role: 'viewer' });
  await page.goto(`${w.url}/access`);
  await page.getByText(hostile).first().waitFor();
  assert.equal(await ran(page), false);
  for (const name of ['x'.repeat(10_000), 'a\u202egnp.exe', 'a\u0000b']) {
    await assert.rejects(w.call('POST', '/api/v1/tokens', { name, role: 'viewer' }), /: 4\d\d /, `${name.slice(0, 20)} was taken`);
  }
});

const long = 'l'.repeat(251) + '.txt';
/** What tricks there are in names of files, and what is in each. */
const tricks = {
  '<img src=x onerror="globalThis.ran=true">': 'angle', [`"'&amp; quotes`]: 'quotes', 'invoice\u202egnp.exe': 'turned', '\u05d0\u05d1\u05d2': 'hebrew', [long]: 'long', 'line\nbreak': 'two lines',
};
const files = Object.fromEntries(Object.entries(tricks).map(([name, content]) => [`tricks/${name}`, content]));

test('a server that calls itself something is called what a host may be', async () => {
  const { id: token, token: text } = await w.call('POST', '/api/v1/enrolment-tokens', { kind: 'agent' });
  w.agent(`<img src=x onerror="globalThis.ran=true">"'\u202e${'n'.repeat(200)}`, text, w.filesystem('tricks.img', files));
  const tricky = await until('it enrols', async () => (await w.call('GET', '/api/v1/enrolment-tokens')).items.find((t) => t.id === token)?.used_by[0]?.split('/').at(-1));
  const m = await until('it has a restpoint', async () => {
    const now = await w.call('GET', `/api/v1/machines/${tricky}`);
    return now.last_restpoint && now;
  });
  assert.match(m.name, /^[\w.-]{1,63}$/);
  restpoint = m.last_restpoint;
  await page.goto(`${w.url}/machines`);
  await page.getByRole('link', { name: m.name.slice(0, 40) }).waitFor(); // the table cuts what is long
  assert.equal(await ran(page), false);
  assert.equal(await wide(page), false);
});

test('a text of 10,000 characters does not break the page', async () => {
  await page.goto(`${w.url}/machines?search=${'x'.repeat(10_000)}`);
  await page.getByText('No machine is like that').waitFor();
  assert.equal(await wide(page), false);
});

test('removing asks for the name, and says what is lost', async () => {
  const { token } = await w.call('POST', '/api/v1/enrolment-tokens', { kind: 'agent' });
  w.agent('short-lived', token, w.disk('other.img', 2));
  await until('its first copy is over, for a machine that is being copied is not removed', async () =>
    (await w.call('GET', '/api/v1/machines?search=short-lived')).items.some((m) => m.last_restpoint && !m.session));
  await page.goto(`${w.url}/machines`);
  await page.getByRole('link', { name: 'short-lived' }).click();
  await page.getByRole('tab', { name: 'Settings' }).click();
  await page.getByRole('button', { name: 'Remove…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('What is lost:').waitFor();
  const go = dialog.getByRole('button', { name: 'Remove it and its restpoints' });
  assert.ok(await go.isDisabled());
  await dialog.getByRole('textbox').fill('short-live');
  assert.ok(await go.isDisabled());
  await dialog.getByRole('textbox').fill('short-lived');
  await go.click();
  await page.getByText('The machine was removed').waitFor();
  await until('it is not listed any more', async () => (await page.getByRole('link', { name: 'short-lived' }).count()) === 0);
});

test('a viewer is offered nothing that he may not do', async () => {
  const { token } = await w.call('POST', '/api/v1/tokens', { name: 'looks only', role: 'viewer' });
  const viewer = await w.page();
  await viewer.goto(`${w.url}/machines/${id}`);
  await viewer.getByRole('button', { name: 'Use an API token' }).click();
  await viewer.getByLabel('API token').fill(token);
  await viewer.getByRole('button', { name: 'Sign in', exact: true }).click();
  await viewer.getByRole('heading', { name: 'db-1', level: 1 }).waitFor();
  assert.equal(await viewer.getByRole('button', { name: 'Launch a test' }).count(), 0);
  await viewer.getByRole('tab', { name: 'Settings' }).click();
  await viewer.getByLabel('Group', { exact: true }).waitFor();
  assert.equal(await viewer.getByRole('button', { name: 'Save' }).count(), 0);
  await viewer.context().close();
});

test('a token that is revoked in the middle signs out, and says why', async () => {
  const made = await w.call('POST', '/api/v1/tokens', { name: 'soon gone', role: 'viewer' });
  const other = await w.page();
  await other.goto(`${w.url}/overview`);
  await other.getByRole('button', { name: 'Use an API token' }).click();
  await other.getByLabel('API token').fill(made.token);
  await other.getByRole('button', { name: 'Sign in', exact: true }).click();
  await other.getByText('Live', { exact: true }).waitFor();
  await w.call('DELETE', `/api/v1/tokens/${made.id}`);
  await other.getByText('You were signed out').waitFor();
  await other.context().close();
});

test('everything can be reached by keyboard', async () => {
  await page.goto(`${w.url}/machines`);
  await page.getByRole('link', { name: 'db-1' }).waitFor();
  const reached = new Set();
  // A new page has the focus on its heading: what is above is reached backwards, what is below forwards.
  for (let i = 0; i < 80; i++) {
    await page.keyboard.press(i < 30 ? 'Shift+Tab' : 'Tab');
    reached.add(await page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent?.trim()));
  }
  for (const want of ['Skip to content', 'Overview', 'Access', 'Sign out', 'Replication', 'Views', 'db-1', 'Add a machine']) assert.ok([...reached].some((r) => r?.includes(want)), `${want} was not reached: ${[...reached].join(' | ')}`);
});

const screens = () => [
  '/overview', '/machines', '/add-machine', `/machines/${id}`, `/machines/${id}/restpoints`, `/machines/${id}/launch-template`, `/restpoints/${restpoint}`, '/launches', '/providers', '/nodes', '/access', '/settings',
];

for (const theme of ['light', 'dark']) {
  test(`axe finds nothing serious on any screen, ${theme}`, async () => {
    const held = [];
    for (const path of screens()) {
      await page.evaluate((t) => localStorage.setItem('openmigrate-preferences', JSON.stringify({ theme: t })), theme);
      await page.goto(w.url + path);
      await page.getByRole('heading', { level: 1 }).waitFor();
      await until('nothing loads', async () => (await page.locator('[aria-busy=true]').count()) === 0);
      held.push(...(await findings(page)).map((f) => `${path}: ${f}`));
      for (const tab of await page.getByRole('tab').all()) {
        await tab.click();
        await until('nothing loads', async () => (await page.locator('[aria-busy=true]').count()) === 0);
        const name = await tab.textContent();
        held.push(...(await findings(page)).map((f) => `${path} ${name}: ${f}`));
      }
    }
    assert.deepEqual([...new Set(held)], []);
  });
}

test('a phone shows every screen without scrolling sideways', async () => {
  await page.setViewportSize({ width: 390, height: 844 });
  const broad = [];
  for (const path of screens()) {
    await page.goto(w.url + path);
    await page.getByRole('heading', { level: 1 }).waitFor();
    await until('nothing loads', async () => (await page.locator('[aria-busy=true]').count()) === 0);
    if (await wide(page)) broad.push(path);
  }
  await page.setViewportSize({ width: 1360, height: 900 });
  assert.deepEqual(broad, []);
});

test('the browser had nothing to complain about, the policy included', () => assert.deepEqual(page.complaints, []));
