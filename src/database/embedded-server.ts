import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFile, stat, unlink } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Log } from '../log.js';
import { type Account, spawnOptions } from './embedded-account.js';
import { PORT } from './embedded-cluster.js';
import type { Place } from './embedded-place.js';
import type { Programs } from './embedded-programs.js';

/** How a server ended; both are null for one that was adopted, whose exit only its parent learns. */
export interface ServerExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A process of PostgreSQL (its postmaster), started or adopted. */
export interface Server {
  readonly pid: number;
  /** Resolves at its end, whoever caused it. */
  readonly ended: Promise<ServerExit>;
  /** What it wrote last, for an error that says why it ended. */
  lastMessages(): string;
}

/** What postmaster.pid says. */
export interface PidFile {
  readonly pid: number;
  /** The folder of the socket, as the server was told it. */
  readonly socketFolder: string;
  /** starting, stopping, ready or standby. */
  readonly status: string;
}

/** Reads postmaster.pid; undefined if there is none. Its pid is 0 when the file is damaged. */
export async function readPidFile(place: Place): Promise<PidFile | undefined> {
  const text = await readFile(join(place.cluster, 'postmaster.pid'), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const lines = text.split('\n');
  const pid = Number(lines[0]);
  return {
    pid: Number.isSafeInteger(pid) && pid > 1 ? pid : 0,
    socketFolder: lines[4] ?? '',
    status: (lines[7] ?? '').trim(),
  };
}

/**
 * Removes what a server that is gone left: PostgreSQL would not start if its pid has been given to another process of
 * the same account. (Orphaned backends are still noticed, by their shared memory.) The socket first, so that a kill in
 * the middle is made good the next time.
 */
export async function removeTraces(place: Place): Promise<void> {
  const socket = join(place.socket, `.s.PGSQL.${PORT}`);
  for (const path of [socket, `${socket}.lock`, join(place.cluster, 'postmaster.pid')]) {
    await unlink(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }
}

/**
 * Whether the process `pid` is the server of this cluster. A pid alone says nothing, it may have been given to another
 * program since: so its working directory must be the cluster (which it is for every postmaster and for no stranger),
 * or, without /proc, its command line must name it.
 */
export async function isServer(pid: number, place: Place): Promise<boolean> {
  if (pid <= 1) return false;
  if (process.platform !== 'linux') {
    const { stdout } = await promisify(execFile)('ps', ['-ww', '-o', 'command=', '-p', String(pid)]).catch(() => ({
      stdout: '',
    }));
    return stdout.includes(`/postgres -D ${place.cluster} `);
  }
  try {
    const [directory, cluster, command] = await Promise.all([
      stat(`/proc/${pid}/cwd`),
      stat(place.cluster),
      readFile(`/proc/${pid}/cmdline`, 'utf8'),
    ]);
    const program = command.split('\0')[0] ?? '';
    // A backend's title is "postgres: …", without a path.
    return directory.dev === cluster.dev && directory.ino === cluster.ino && program.endsWith('/postgres');
  } catch {
    // Gone, a zombie, or somebody else's.
    return false;
  }
}

/** Starts a server. It lives on when we are killed, and a Ctrl-C in our terminal does not reach it. */
export function startServer(
  place: Place,
  programs: Programs,
  account: Account,
  socketFolder: string,
  settings: Record<string, string>,
  log: Log,
): Server {
  const options = Object.entries({ ...settings, unix_socket_directories: quoteListEntry(socketFolder) });
  const child = spawn(
    programs.postgres,
    ['-D', place.cluster, ...options.flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    {
      ...spawnOptions(account),
      // A session of its own: signals of the terminal go to the foreground's process group.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  const messages: string[] = [];
  const ended = new Promise<ServerExit>((resolve) => {
    child.once('error', (error) => {
      messages.push(error.message);
      if (child.pid === undefined) resolve({ code: null, signal: null });
    });
    // Not `close`: backends that outlive their postmaster hold the pipe.
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  passMessages(child, log, messages);
  child.unref();
  return { pid: child.pid ?? -1, ended, lastMessages: () => messages.join(' ') };
}

/** A server that another process started; its end is noticed within half a second. */
export function adoptServer(pid: number, place: Place): Server {
  const ended = (async (): Promise<ServerExit> => {
    while (await isServer(pid, place)) await sleep(250, undefined, { ref: false });
    return { code: null, signal: null };
  })();
  return { pid, ended, lastMessages: () => '' };
}

/**
 * Stops a server: fast (clients are disconnected, everything is written), if that takes too long immediately (the next
 * start recovers), at last by force.
 */
export async function stopServer(server: Server, place: Place, patience = 60_000): Promise<void> {
  for (const [signal, milliseconds] of [
    ['SIGINT', patience],
    ['SIGQUIT', 10_000],
    ['SIGKILL', 10_000],
  ] as const) {
    if (!(await isServer(server.pid, place))) break;
    try {
      process.kill(server.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') break;
      throw error;
    }
    if (await endsWithin(server, place, milliseconds)) return;
  }
  if (await isServer(server.pid, place)) throw new Error(`PostgreSQL (pid ${server.pid}) does not stop`);
}

async function endsWithin(server: Server, place: Place, milliseconds: number): Promise<boolean> {
  const enough = new AbortController();
  const ended = server.ended.then(() => true);
  // Keeps us alive while waiting, which the server itself, being unreferenced, does not.
  const timer = (async () => {
    const until = performance.now() + milliseconds;
    while (performance.now() < until && !enough.signal.aborted) {
      await sleep(20);
      if (!(await isServer(server.pid, place))) return true;
    }
    return false;
  })();
  return Promise.race([ended, timer]).finally(() => enough.abort());
}

// PostgreSQL writes "LEVEL:  text", and further lines of one message begin with a tab or with another label.
// When we are gone the pipe breaks, which PostgreSQL ignores; so an adopted server's messages are lost until a restart.
function passMessages(child: ChildProcess, log: Log, messages: string[]): void {
  const { stderr } = child;
  if (stderr === null) return;
  if (stderr instanceof Socket) stderr.unref();
  let level = '';
  createInterface({ input: stderr, crlfDelay: Number.POSITIVE_INFINITY }).on('line', (line) => {
    const label = /^([A-Z]+): {2}/.exec(line)?.[1];
    if (label !== undefined && LEVELS[label] !== undefined) level = label;
    messages.push(line.slice(0, 500));
    if (messages.length > 20) messages.shift();
    log[LEVELS[level] ?? 'info']({ source: 'postgres' }, line.trim().slice(0, 2000));
  });
}

// A statement's error is its client's to judge: unique violations are daily business.
const LEVELS: Readonly<Record<string, 'debug' | 'info' | 'warn' | 'error' | 'fatal'>> = {
  DEBUG: 'debug',
  INFO: 'debug',
  NOTICE: 'debug',
  LOG: 'debug',
  ERROR: 'debug',
  WARNING: 'warn',
  FATAL: 'warn',
  PANIC: 'fatal',
};

// unix_socket_directories is a list with commas, whose entries may be quoted.
function quoteListEntry(path: string): string {
  return `"${path.replaceAll('"', '""')}"`;
}
