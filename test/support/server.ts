// A real registry in processes of its own, started as a user would, on a free port.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isAlive, until } from '../faults/support/processes.js';
import { PrivateAuthority } from './certificates.js';
import { createDatabase, type TestDatabase } from './postgres.js';
import { secureFetch } from './secure-fetch.js';

export const ADMIN_KEY = 'wh_admin_test-key-of-the-suite';
export const AUTHORIZATION = `Basic ${Buffer.from(`anyone:${ADMIN_KEY}`).toString('base64')}`;

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const READY_MS = 180_000;

/** The CA of each server that serves HTTPS, by `host`. */
const authorities = new Map<string, string>();

/** What to trust at this address; undefined: plain HTTP is spoken there. */
export function caOf(host: string): string | undefined {
  return authorities.get(host);
}

/** Tells what to trust at the address of something else that serves HTTPS, such as a proxy; undefined: nothing more. */
export function trustAt(host: string, ca: string | undefined): void {
  if (ca === undefined) authorities.delete(host);
  else authorities.set(host, ca);
}

export interface ServerOptions {
  /** More settings, or other ones. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Whether it runs its own embedded PostgreSQL; otherwise it gets a database of the run's. */
  readonly embedded?: boolean;
  /** Whether it serves HTTPS, with a certificate of a private CA; TEST_TLS=1 lets the whole suite do so. */
  readonly tls?: boolean;
  /** Another version's folder, compiled; this checkout otherwise. */
  readonly root?: string;
  /** For Node, before the program. */
  readonly nodeOptions?: readonly string[];
  /** A command that becomes the registry, which follows it; so it can run under other names of hosts. */
  readonly through?: readonly string[];
}

export interface TestServer {
  /** `http://127.0.0.1:port`, or https */
  readonly url: string;
  /** Who signed its certificate, if it serves HTTPS. */
  readonly authority: PrivateAuthority | undefined;
  readonly host: string;
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
  /** The primary process now running. */
  readonly process: ChildProcess;
  /** Pids of the workers, by the kernel's word. */
  workers(): Promise<number[]>;
  /** What it logged so far. */
  log(): Promise<string>;
  /** A request with the admin key. */
  request(method: string, path: string, options?: RequestInit): Promise<Response>;
  /** SIGTERM, and waits. @returns the exit code. */
  stop(): Promise<number | null>;
  /** kill -9 of the primary and the workers, and waits. */
  kill(): Promise<void>;
  /** Starts it again on the same folder, database and port, after `stop` or `kill`. */
  start(): Promise<void>;
  /** Stops it and removes its folder and database. @throws when Node warned it of something. */
  dispose(): Promise<void>;
}

const LAST_WORDS_MS = 5_000;

/** Below those that systems give to outgoing connections, of which suites make many. */
const PORTS = { first: 15_000, count: 15_000 };

/**
 * Takes the number of a port for this process until it ends, among the suites that run at the same time: a registry that
 * is started again wants its port back. It is held by a socket of UDP, which nothing here speaks.
 */
async function reserve(port: number): Promise<boolean> {
  const socket = createSocket('udp4').unref();
  return await new Promise((resolve) => {
    socket.once('error', () => {
      socket.close();
      resolve(false);
    });
    socket.bind({ port, address: '127.0.0.1', exclusive: true }, () => resolve(true));
  });
}

/** A port that was free a moment ago, and that no other suite is given. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.first + randomInt(PORTS.count);
    if (!(await reserve(port))) continue;
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen({ port, host: '127.0.0.1', exclusive: true }, () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/** Starts a registry; resolves when it answers and all its workers are there. */
export async function startServer(options: ServerOptions = {}): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'weighhouse-server-'));
  // Started by root, PostgreSQL runs as another account, which has to pass.
  await chmod(folder, 0o711);
  const port = await freePort();
  const database: TestDatabase | undefined = options.embedded ? undefined : await createDatabase();
  const authority = (options.tls ?? process.env.TEST_TLS === '1') ? await PrivateAuthority.make(folder) : undefined;
  const certificate = await authority?.issue();
  const environment = {
    REGISTRY_TLS_CERT: certificate?.cert ?? '',
    REGISTRY_TLS_KEY: certificate?.key ?? '',
    REGISTRY_LISTEN: `127.0.0.1:${port}`,
    REGISTRY_DATA_DIR: join(folder, 'data'),
    REGISTRY_ADMIN_KEY: ADMIN_KEY,
    REGISTRY_BCRYPT_COST: '4',
    REGISTRY_WORKERS: '2',
    // Suites guess all day, from one address.
    REGISTRY_AUTH_FAILURES_PER_ADDRESS: '1000000',
    REGISTRY_AUTH_FAILURES_PER_KEY: '1000000',
    REGISTRY_DATABASE_URL: database?.url ?? '',
    // The whole suite passes with one connection a process, too.
    REGISTRY_DATABASE_POOL: process.env.TEST_DATABASE_POOL ?? '',
    ...options.environment,
  };
  const server = new Server(folder, `127.0.0.1:${port}`, environment, database, authority, options);
  try {
    await server.start();
  } catch (error) {
    await server.dispose();
    throw error;
  }
  return server;
}

class Server implements TestServer {
  #process: ChildProcess | undefined;
  /** Until all that the process said is in the file. */
  #logged: Promise<unknown> = Promise.resolve();
  readonly url: string;

  constructor(
    readonly folder: string,
    readonly host: string,
    readonly environment: Readonly<Record<string, string>>,
    readonly database: TestDatabase | undefined,
    readonly authority: PrivateAuthority | undefined,
    readonly options: Pick<ServerOptions, 'root' | 'nodeOptions' | 'through'>,
  ) {
    if (authority) authorities.set(host, authority.pem);
    this.url = `${authority ? 'https' : 'http'}://${host}`;
  }

  get process(): ChildProcess {
    if (!this.#process) throw new Error('the server does not run');
    return this.#process;
  }

  async start(): Promise<void> {
    const { PATH = '', HOME = '' } = process.env;
    const { root = ROOT, nodeOptions = [], through = [] } = this.options;
    const node = [process.execPath, ...nodeOptions, join(root, 'bin/weighhouse.js'), 'serve'];
    const [program = '', ...words] = [...through, ...node];
    const child = spawn(program, words, {
      cwd: root,
      env: { PATH, HOME, ...this.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const log = createWriteStream(join(this.folder, 'log'), { flags: 'a' });
    child.stdout?.pipe(log, { end: false });
    child.stderr?.pipe(log, { end: false });
    child.once('close', () => log.end());
    this.#logged = once(log, 'close');
    this.#process = child;
    const deadline = performance.now() + READY_MS;
    const wanted = Number(this.environment.REGISTRY_WORKERS) || 1;
    for (;;) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`the server ended at its start:\n${await this.log()}`);
      const answer = await this.#fetch('/v2/').catch(() => undefined);
      // The first one answers a moment before the others are made.
      if (answer?.status === 401 && (await this.workers()).length >= wanted) return;
      if (performance.now() > deadline) throw new Error(`the server did not start in time:\n${await this.log()}`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  async workers(): Promise<number[]> {
    const pid = this.process.pid;
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    const pids = children
      .split(' ')
      .filter((text) => text !== '')
      .map(Number);
    const commands = await Promise.all(pids.map((child) => readFile(`/proc/${child}/cmdline`, 'utf8').catch(() => '')));
    return pids.filter((_, index) => commands[index]?.includes('weighhouse.js'));
  }

  async log(): Promise<string> {
    return await readFile(join(this.folder, 'log'), 'utf8').catch(() => '');
  }

  async request(method: string, path: string, options: RequestInit = {}): Promise<Response> {
    const headers = new Headers(options.headers);
    if (!headers.has('authorization')) headers.set('authorization', AUTHORIZATION);
    return await this.#fetch(path, { redirect: 'manual', ...options, method, headers });
  }

  async #fetch(path: string, options?: RequestInit): Promise<Response> {
    const url = new URL(path, this.url);
    return await (this.authority ? secureFetch(url, this.authority.pem, options) : fetch(url, options));
  }

  async stop(): Promise<number | null> {
    const child = this.#process;
    if (!child) return null;
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    // Its last words may still be on their way; a child of its that lives on keeps them open.
    const over = new AbortController();
    const late = sleep(LAST_WORDS_MS, undefined, { signal: over.signal }).catch(() => undefined);
    await Promise.race([this.#logged, late]).finally(() => over.abort());
    this.#process = undefined;
    return child.exitCode;
  }

  async kill(): Promise<void> {
    const child = this.process;
    const workers = await this.workers();
    child.kill('SIGKILL');
    for (const pid of workers) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    await until('the workers are gone', async () => !(await Promise.all(workers.map(isAlive))).includes(true));
    this.#process = undefined;
  }

  async dispose(): Promise<void> {
    await this.stop();
    // What Node warns of, its next version may refuse; a leak of listeners is told in the same way.
    const warning = /^\(node:\d+\) .*/m.exec(await this.log())?.[0];
    await this.database?.drop();
    authorities.delete(this.host);
    await rm(this.folder, { recursive: true, force: true });
    if (warning) throw new Error(`Node warned the server: ${warning}`);
  }
}
