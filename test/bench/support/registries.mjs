// What is measured, each in processes and a folder of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../../scripts/free-port.mjs';

const START_MS = 300_000;
const POLL_MS = 5;
/** Fewer than what is taken for guessing. */
const KEY_ATTEMPTS = 8;
const KEY_PAUSE_MS = 200;
export const KEY = 'wh_admin_only-for-measuring';
const BASIC = `Basic ${Buffer.from(`bench:${KEY}`).toString('base64')}`;

/** A process that serves HTTP, started and stopped as often as it is wanted. */
export class Registry {
  #start;
  /**
   * @param start given a free port, makes the process
   * @param isKeyed whether it is asked with `KEY`
   */
  constructor(name, start, isKeyed = false) {
    this.name = name;
    this.#start = start;
    this.isKeyed = isKeyed;
  }

  get pid() {
    return this.child.pid;
  }

  /** @returns after how many seconds it answered. */
  async start() {
    this.port = await freePort();
    const begun = performance.now();
    this.child = await this.#start(this.port);
    for (const deadline = performance.now() + START_MS; ; await sleep(POLL_MS)) {
      if (this.child.exitCode !== null) throw new Error(`${this.name} ended at its start`);
      if (performance.now() > deadline) throw new Error(`${this.name} does not start`);
      const answer = await fetch(`http://127.0.0.1:${this.port}/v2/`).catch(() => undefined);
      // Who comes without a key is told so, and may push all the same.
      if (answer?.ok || answer?.status === 401) break;
    }
    const seconds = (performance.now() - begun) / 1000;
    if (this.isKeyed) await this.#knowsKey();
    return seconds;
  }

  /** The first start answers a moment before it has made the key. */
  async #knowsKey() {
    for (let attempt = 0; attempt < KEY_ATTEMPTS; attempt++, await sleep(KEY_PAUSE_MS)) {
      const answer = await fetch(`http://127.0.0.1:${this.port}/v2/`, { headers: this.basic });
      if (answer.ok) return;
    }
    throw new Error(`${this.name} does not know its key`);
  }

  /** Header fields that give the right to everything, as `curl -u` sends them. */
  get basic() {
    return this.isKeyed ? { authorization: BASIC } : {};
  }

  /** Header fields with a token for a repository and the catalog, as clients get one; it is good for five minutes. */
  async token(repository) {
    if (!this.isKeyed) return {};
    const scopes = [`repository:${repository}:pull,push`, 'registry:catalog:*'];
    const query = scopes.map((scope) => `&scope=${encodeURIComponent(scope)}`).join('');
    const url = `http://127.0.0.1:${this.port}/v2/token?service=127.0.0.1:${this.port}${query}`;
    const answer = await fetch(url, { headers: this.basic });
    if (!answer.ok) throw new Error(`no token: ${answer.status} ${await answer.text()}`);
    return { authorization: `Bearer ${(await answer.json()).token}` };
  }

  async stop() {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    await exit;
  }
}

/** A folder that PostgreSQL's account can pass, and how to remove it. */
export async function makeFolder(parent = tmpdir()) {
  const path = await mkdtemp(join(parent, 'weighhouse-bench-'));
  await chmod(path, 0o711);
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 }) };
}

/** This registry as `npm start` runs a checkout that is built, with a PostgreSQL; without keys unless `isKeyed`. */
export function ours(name, checkout, settings, isKeyed = false) {
  const { PATH, HOME, NODE_OPTIONS = '' } = process.env;
  const access = isKeyed ? { REGISTRY_ADMIN_KEY: KEY } : { REGISTRY_ANONYMOUS: 'push' };
  const start = (port) =>
    spawn(process.execPath, ['bin/weighhouse.js', 'serve'], {
      cwd: checkout,
      env: {
        PATH,
        HOME,
        NODE_OPTIONS,
        REGISTRY_LISTEN: `127.0.0.1:${port}`,
        REGISTRY_LOG_LEVEL: 'warn',
        ...access,
        ...settings,
      },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  return new Registry(name, start, isKeyed);
}
