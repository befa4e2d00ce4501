import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { notRun } from '../../support/not-run.js';
import { registry } from './registry.js';
import { clientSettings, withCare } from './tls.js';
import { end } from './weighhouse.js';

const cacheHome = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
export const clientsCache = process.env.WEIGHHOUSE_CLIENTS || join(cacheHome, 'weighhouse', 'clients');

const folders = [join(clientsCache, 'bin'), ...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];

export function findClient(name: string): string | undefined {
  if (name === 'oras-py') return [join(clientsCache, 'venv', 'bin', 'python')].find((file) => existsSync(file));
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
}

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

interface RunOptions {
  cwd?: string;
  env?: Record<string, string>;
  input?: string | Buffer;
  /** Exit codes other than 0 that are all right. */
  codes?: number[];
  seconds?: number;
}

/**
 * What one client's test has to itself: a home, so that no login leaks, folders, daemons and repositories. Made by
 * `scenario()`, and gone after the last test.
 */
export class Scenario {
  readonly repository: string;
  /** More variables for every command of this scenario. */
  readonly settings: Record<string, string> = {};
  readonly #daemons: ChildProcess[] = [];
  readonly #cleanups: (() => Promise<unknown>)[] = [];

  constructor(
    readonly name: string,
    readonly folder: string,
  ) {
    this.repository = `clients/${name}-${randomBytes(4).toString('hex')}`;
  }

  get host(): string {
    return registry().host;
  }

  /** `host:port/clients/…/<name>`: a repository of this scenario, with the registry's address before it. */
  at(name: string): string {
    return `${this.host}/${this.repository}/${name}`;
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  get env(): Record<string, string> {
    return {
      PATH: folders.join(delimiter),
      LANG: 'C.UTF-8',
      HOME: this.path('home'),
      XDG_CONFIG_HOME: this.path('home', '.config'),
      XDG_CACHE_HOME: this.path('home', '.cache'),
      XDG_DATA_HOME: this.path('home', '.local'),
      XDG_RUNTIME_DIR: this.path('run'),
      DOCKER_CONFIG: this.path('home', '.docker'),
      REGISTRY_AUTH_FILE: this.path('home', '.docker', 'config.json'),
      TMPDIR: this.path('tmp'),
      ...clientSettings,
      ...this.settings,
    };
  }

  async prepare(): Promise<void> {
    for (const name of ['home/.docker', 'home/.config', 'home/.cache', 'home/.local', 'run', 'tmp']) {
      await mkdir(this.path(name), { recursive: true });
    }
    // podman fails if REGISTRY_AUTH_FILE names a file that isn't there.
    await writeFile(this.path('home', '.docker', 'config.json'), '{"auths":{}}\n');
  }

  /** Runs a client to its end; any code that wasn't expected is an error that shows what it said. */
  async run(command: string, args: string[], options: RunOptions = {}): Promise<Outcome> {
    const { input, codes = [0], seconds = 240 } = options;
    const child = this.#spawn(command, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
    const insist = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on('data', (data: Buffer) => stdout.push(data));
    child.stderr?.on('data', (data: Buffer) => stderr.push(data));
    // A client may end without having read its input.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
    const [code] = (await once(child, 'close')) as [number | null];
    clearTimeout(insist);
    const outcome = { code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
    if (code === null || !codes.includes(code)) {
      const said = `${outcome.stdout}\n${outcome.stderr}`.trim().slice(-4000);
      throw new Error(`${command} ${args.join(' ')}: ended with ${code ?? child.signalCode}\n${said}`);
    }
    return outcome;
  }

  /** Runs a command that has to be refused, and gives what it said. */
  async refused(command: string, args: string[], options: RunOptions = {}): Promise<string> {
    const codes = Array.from({ length: 255 }, (_, index) => index + 1);
    const { stdout, stderr } = await this.run(command, args, { ...options, codes });
    return `${stdout}\n${stderr}`;
  }

  /** Starts a daemon that is ended, by its id, when the scenario is over. @returns what it said last, at any time. */
  async daemon(command: string, args: string[], isReady: () => Promise<boolean>, seconds = 120): Promise<() => string> {
    const child = this.#spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#daemons.push(child);
    let log = '';
    const keep = (data: Buffer): void => {
      log = `${log}${data.toString()}`.slice(-2_000_000);
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; ) {
      if (child.exitCode !== null) throw new Error(`${command} ended with ${child.exitCode}:\n${log}`);
      if (await isReady()) return () => log;
      await new Promise((done) => setTimeout(done, 100));
    }
    throw new Error(`${command} isn't ready after ${seconds} s:\n${log}`);
  }

  /** Something to undo before the folder goes, such as a mount. */
  onEnd(cleanup: () => Promise<unknown>): void {
    this.#cleanups.unshift(cleanup);
  }

  /** For clients that write to a fixed place too: from the first of these paths, each inside the other, that is not there. */
  removeIfNew(...paths: string[]): void {
    const first = paths.find((path) => !existsSync(path));
    if (first !== undefined) this.onEnd(() => rm(first, { recursive: true, force: true }));
  }

  async end(): Promise<void> {
    for (const cleanup of this.#cleanups) await cleanup();
    for (const daemon of this.#daemons.reverse()) await end(daemon);
    for (const mount of await this.#mounts()) await this.run('umount', [mount]);
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  /** What a daemon left mounted in our folder, the innermost first. */
  async #mounts(): Promise<string[]> {
    const table = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
    const places = table.split('\n').map((line) => line.split(' ')[4] ?? '');
    return places.filter((place) => place.startsWith(`${this.folder}/`)).reverse();
  }

  /** The Docker config.json as a login left it: credentials of one host, in the form nearly every client reads. */
  async writeDockerLogin(host = this.host): Promise<void> {
    const { user, key } = registry();
    const auth = Buffer.from(`${user}:${key}`).toString('base64');
    await writeFile(this.env.REGISTRY_AUTH_FILE ?? '', JSON.stringify({ auths: { [host]: { auth } } }));
  }

  #spawn(command: string, args: string[], { cwd, env, stdio }: RunOptions & Pick<SpawnOptions, 'stdio'>): ChildProcess {
    const program = findClient(command) ?? command;
    return spawn(program, withCare(args), { cwd: cwd ?? this.folder, env: { ...this.env, ...env }, stdio });
  }
}

/**
 * Registers the hooks of a scenario in the surrounding `describe`, which runs only if all of its clients are there.
 */
export function scenario(name: string, clients: string[], { root = false } = {}): () => Scenario {
  let current: Scenario | undefined;
  before(async function () {
    const missing = clients.filter((client) => findClient(client) === undefined);
    const reasons = missing.map((client) => `${client} is not installed (npm run clients:install)`);
    if (root && process.getuid?.() !== 0) reasons.push('it needs root');
    if (reasons.length > 0) notRun(this, name, reasons.join('; '));
    // Short, because the path of a daemon's socket may have no more than 107 characters.
    current = new Scenario(name, await mkdtemp(join(tmpdir(), `wh-${name}-`)));
    // As root it would remember across scenarios, in /var, which layers lie where.
    if (clients.includes('skopeo')) current.settings._CONTAINERS_ROOTLESS_UID = '1';
    await current.prepare();
  });
  after(async () => current?.end());
  return () => {
    if (current === undefined) throw new Error('a scenario exists only within its tests');
    return current;
  };
}
