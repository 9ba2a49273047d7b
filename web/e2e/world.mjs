// A real master with staging, a node and agents that copy image files, all from bin/, and a browser on it.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:https';
import { closeSync, existsSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const bin = new URL('../../bin/', import.meta.url).pathname;
export const patience = 60_000; // ms; this runs on busy machines, too

const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** World is everything that was started; close ends it. */
export class World {
  #children = [];

  /** open starts a master, with further flags. */
  static async open(...more) {
    const w = new World();
    w.dir = mkdtempSync(join(tmpdir(), 'openmigrate-web-'));
    w.flags = more;
    try {
      await w.#startMaster();
      w.browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: flags });
    } catch (error) {
      await w.close();
      throw error;
    }
    return w;
  }

  async #startMaster() {
    const data = join(this.dir, 'd');
    const env = join(data, 'env');
    rmSync(env, { force: true });
    this.master = this.#start(join(bin, 'openmigrate'), ['dev', '--data-dir', data, '--listen', '127.0.0.1:0', ...this.flags]);
    await until('the master is ready', () => existsSync(env));
    this.env = Object.fromEntries([...readFileSync(env, 'utf8').matchAll(/(\w+)='(.*)'/g)].map((m) => [m[1], m[2]]));
    this.url = this.env.OPENMIGRATE_URL;
    this.token = this.env.OPENMIGRATE_TOKEN;
  }

  /** restart ends the master, has something done to its data directory, and starts it again. Its address is another then. */
  async restart(meanwhile) {
    await stop(this.master);
    await meanwhile(join(this.dir, 'd'));
    await this.#startMaster();
  }

  /** link is the one-time link with which the first user is made, as the master printed it. */
  link() {
    return /https:\/\/\S+\/welcome#\S+/.exec(this.master.said)?.[0];
  }

  /** page opens a page on which nothing may go wrong unseen: what the browser complains about is in page.complaints. */
  async page(options = {}) {
    const context = await this.browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1360, height: 900 }, timezoneId: 'Europe/Berlin', ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(patience);
    page.complaints = [];
    page.on('pageerror', (e) => page.complaints.push(`error: ${e.message}`));
    page.on('console', (m) => m.type() === 'error' && !/status of 4\d\d/.test(m.text()) && page.complaints.push(`console: ${m.text()}`));
    return page;
  }

  async signIn(page, path = '/overview') {
    await page.goto(this.url + path);
    await page.getByRole('button', { name: 'Use an API token' }).click();
    await page.getByLabel('API token').fill(this.token);
    await page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await page.getByRole('button', { name: 'Sign out' }).waitFor();
    return page;
  }

  /** call asks the API as a script would; it is for what a test needs around it, never for what it tests. */
  async call(method, path, body, headers = {}) {
    return new Promise((resolve, reject) => {
      const r = request(this.url + path, { method, ca: readFileSync(this.env.OPENMIGRATE_CA_FILE), headers: { Authorization: `Bearer ${this.token}`, 'Content-Type': 'application/json', ...headers } }, (response) => {
        let text = '';
        response.on('data', (b) => (text += b)).on('end', () => (response.statusCode < 300 ? resolve(text ? JSON.parse(text) : undefined) : reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`))));
      });
      r.on('error', reject);
      r.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** disk makes an image file with random data, so that something is to be copied. */
  disk(name, mib = 8) {
    const file = join(this.dir, name);
    const f = openSync(file, 'w');
    ftruncateSync(f, mib << 20);
    for (let at = 0; at < mib; at += 2) writeSync(f, randomBytes(1 << 20), 0, 1 << 20, at << 20);
    closeSync(f);
    return file;
  }

  /** filesystem makes an image file with an ext4 file system that holds files: contents by path. */
  filesystem(name, files, mib = 16) {
    const file = join(this.dir, name);
    const from = mkdtempSync(join(this.dir, 'files-'));
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(join(from, path, '..'), { recursive: true });
      writeFileSync(join(from, path), content);
    }
    const made = spawnSync('mkfs.ext4', ['-q', '-F', '-d', from, file, `${mib}M`], { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }, encoding: 'utf8' });
    if (made.status !== 0) throw new Error(`mkfs.ext4: ${made.stderr ?? made.error}`);
    return file;
  }

  /** scribble changes a part of an image file. */
  scribble(file, mib = 1, bytes = 1 << 16) {
    const f = openSync(file, 'r+');
    writeSync(f, randomBytes(bytes), 0, bytes, mib << 20);
    closeSync(f);
  }

  /** agent starts an agent with a token, as the command that the dashboard shows does. */
  agent(name, token, disk) {
    return this.#start(join(bin, 'openmigrate-agent'), ['run', '--token', token, '--state-dir', join(this.dir, 's-' + randomBytes(4).toString('hex')), '--name', name, '--disk', disk]);
  }

  #start(program, args) {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.said = '';
    for (const from of [child.stdout, child.stderr]) from.on('data', (b) => (child.said = (child.said + b).slice(-1_000_000)));
    this.#children.push(child);
    return child;
  }

  /** Launched machines outlive their master: those that still run are taken back first. */
  async #endLaunches() {
    if (!this.env || this.master.exitCode !== null) return;
    const active = async () => (await this.call('GET', '/api/v1/launches?active=true')).items;
    for (const l of await active()) await this.call('POST', `/api/v1/launches/${l.id}/revert`);
    await until('launched machines are gone', async () => (await active()).length === 0);
  }

  async close() {
    await this.browser?.close();
    await this.#endLaunches().catch((error) => console.error(`launched machines may be left over: ${error.message}`));
    for (const child of this.#children.reverse()) await stop(child);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await Promise.race([ended, sleep(20_000, undefined, { ref: false }).then(() => child.kill('SIGKILL'))]);
}

/** until waits for something to become true. */
export async function until(what, test, ms = patience) {
  for (const end = Date.now() + ms; ; await sleep(200)) {
    const got = await test();
    if (got) return got;
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain: ${what}`);
  }
}
