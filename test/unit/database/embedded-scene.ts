import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { type EmbeddedOptions, type EmbeddedPostgres, startEmbedded } from '../../../src/database/embedded.js';
import { findAccount, findBarrier } from '../../../src/database/embedded-account.js';
import { isServer, readPidFile } from '../../../src/database/embedded-server.js';
import { createLog } from '../../../src/log.js';

export const log = createLog('silent');
export const isRoot = process.getuid?.() === 0;
const sources = new URL('../../../src/', import.meta.url);

/** Temporary folders, servers and processes of one test; `clear` ends and removes them all. */
export class Scene {
  readonly #folders: string[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #servers: EmbeddedPostgres[] = [];

  /** A folder that PostgreSQL's account can pass, also when the tests run as root. */
  async folder(): Promise<string> {
    const account = await findAccount(undefined);
    const base = (await findBarrier(await realpath(tmpdir()), account)) === undefined ? tmpdir() : '/tmp';
    const folder = await realpath(await mkdtemp(join(base, 'weighhouse-test-')));
    if (isRoot) await chmod(folder, 0o711);
    this.#folders.push(folder);
    return folder;
  }

  async start(dataDir: string, options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedPostgres> {
    const server = await startEmbedded({ dataDir, log, ...options });
    this.#servers.push(server);
    return server;
  }

  /**
   * Runs a module's text in a process of its own, in which `sources` is our compiled src and `tell` sends a value.
   * Resolves when the first value comes.
   */
  async run(text: string, options: { uid?: number; gid?: number; sources?: URL; detached?: boolean } = {}) {
    const { sources: from = sources, ...rest } = options;
    const whole = `const sources = ${JSON.stringify(from.href)}; const tell = (value) => console.log(JSON.stringify(value)); ${text}`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', whole], {
      cwd: '/',
      stdio: ['pipe', 'pipe', 'inherit'],
      ...rest,
    });
    this.#children.push(child);
    const values = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<unknown> => JSON.parse((await values.next()).value ?? 'null') as unknown;
    return { child, next };
  }

  /** A registry's process that started PostgreSQL, and hangs on. */
  async registry(dataDir: string, text = '') {
    const { child, next } = await this.run(`
      const { startEmbedded } = await import(sources + 'database/embedded.js');
      const { createLog } = await import(sources + 'log.js');
      setInterval(() => undefined, 1000);
      ${text}
      const server = await startEmbedded({ dataDir: ${JSON.stringify(dataDir)}, log: createLog('silent') });
      tell(server.url);`);
    return { child, next };
  }

  async clear(): Promise<void> {
    for (const child of this.#children.splice(0)) await kill(child);
    for (const server of this.#servers.splice(0)) await server.stop();
    for (const folder of this.#folders.splice(0)) {
      for (const pid of await findPostmasters(folder)) await killPid(pid);
      await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
    }
  }
}

export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const end = once(child, 'exit');
  child.kill('SIGKILL');
  await end;
}

/** The pid of the server of a place. */
export async function postmasterOf(place: string): Promise<number> {
  return Number((await readFile(join(place, 'cluster/postmaster.pid'), 'utf8')).split('\n')[0]);
}

export async function killPid(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await until(async () => !(await isAlive(pid)));
}

/** Whether a process runs; one that nobody reaps doesn't. */
export async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return status !== '' && !/\) [ZX] /.test(status);
}

export async function until(check: () => Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 30_000; !(await check()); ) {
    if (performance.now() > deadline) throw new Error('It did not come to pass.');
    await sleep(5);
  }
}

/** The value of the first column of the first row. */
export async function ask(url: string, text: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<Record<string, unknown>>(text);
    return Object.values(rows[0] ?? {})[0];
  } finally {
    await client.end();
  }
}

/** The error that a promise must end with. */
export async function failureOf(promise: Promise<unknown>): Promise<Error> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof Error) return error;
  throw new Error('It succeeded.');
}

async function findPostmasters(folder: string): Promise<number[]> {
  const pids: number[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.name !== 'postmaster.pid') continue;
    const place = { folder, cluster: entry.parentPath, socket: '', access: '', initialized: true };
    const pid = (await readPidFile(place))?.pid ?? 0;
    if (await isServer(pid, place)) pids.push(pid);
  }
  return pids;
}

export async function namesIn(folder: string, prefix: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).filter((name) => name.startsWith(prefix));
}
