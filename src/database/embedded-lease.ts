import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFile, stat, statfs, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Log } from '../log.js';
import { replaceFile, syncFolder } from './embedded-folders.js';

/*
 * The lock of the data folder is seen by processes of one kernel. Another machine that has the folder over the network
 * sees this file: who runs PostgreSQL, and a number that grows while he lives. Whoever finds another's watches whether it
 * does, by his own clock:
 *   of this boot of this kernel, which sees the same folder
 *                                      -> dead, as the lock is ours: taken at once
 *   left on a local file system, seen as local here
 *                                      -> of this machine before it was started anew: taken at once
 *   changes                            -> refused
 *   gone                               -> ended in good order: taken at once
 *   stands still                       -> taken, but a PostgreSQL may have outlived its registry there. Its postmaster.pid
 *                                         is removed, which it looks for once a minute and ends without; that is waited for.
 * A holder that finds another's name in the file stops its PostgreSQL at once: it stood still, and was given up.
 */
const FILE = 'postgres-lease';

const TIMES: LeaseTimes = { beatMs: 5_000, watchMs: 20_000, fenceMs: 130_000 };

export interface LeaseTimes {
  /** Between two signs of life. */
  readonly beatMs: number;
  /** How long another's signs of life are waited for. */
  readonly watchMs: number;
  /** How long a PostgreSQL may go on whose postmaster.pid is gone: it looks every 60 s, after a sleep of as much. */
  readonly fenceMs: number;
}

/** A machine, until it is started anew, and how it sees the folder. */
export interface Machine {
  /** What two processes have in common that find each other by the lock. */
  readonly boot: string;
  /** Whether no other machine can have the data folder's file system mounted beside this one. */
  readonly local: boolean;
}

export interface LeaseOptions {
  readonly log: Log;
  /** Ends the wait. */
  readonly signal?: AbortSignal | undefined;
  /** Makes a PostgreSQL end that was left by a machine which no longer gives signs of life. */
  readonly fence: () => Promise<void>;
  /** For tests: another machine, and other times. */
  readonly machine?: Machine | undefined;
  readonly times?: LeaseTimes | undefined;
}

/** The right of one machine, among those that share a data folder, to run its PostgreSQL. */
export interface Lease {
  /** Resolves when another machine has taken it. */
  readonly lost: Promise<void>;
  /** Gives no more signs of life. @param clean whether nothing of PostgreSQL runs, so that others need not wait */
  end(clean: boolean): Promise<void>;
}

interface Holder extends Machine {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
}

/**
 * Takes the lease of a data folder, whose lock the caller holds.
 *
 * @param dataDir real path of the data folder
 * @throws Error naming the machine that holds it; the signal's reason
 */
export async function takeLease(dataDir: string, options: LeaseOptions): Promise<Lease> {
  const { log, signal, times = TIMES } = options;
  const machine = options.machine ?? (await thisMachine(dataDir));
  const path = join(dataDir, FILE);
  const own: Holder = { id: randomUUID(), host: hostname(), pid: process.pid, ...machine };
  for (;;) {
    const text = await read(path);
    if (text === undefined) {
      if (await make(path, own)) return hold(path, own, times, log);
      continue;
    }
    const holder = parse(text);
    if (holder?.boot === own.boot || (holder?.local && own.local)) {
      await replaceFile(path, write(own, 0), 0o600);
      return hold(path, own, times, log);
    }
    const seconds = (times.watchMs + times.fenceMs) / 1000;
    log.warn(
      { holder: holder?.host, pid: holder?.pid, seconds },
      'the database was left by a registry on another machine, or on this one before it was started anew; ' +
        `it is taken over if that gives no sign of life (remove ${path} if it is sure to have ended)`,
    );
    const now = await watch(path, text, times, signal);
    if (now === undefined) continue;
    if (now !== text) throw new Error(refusal(dataDir, parse(now) ?? holder));
    await replaceFile(path, write(own, 0), 0o600);
    const lease = hold(path, own, times, log);
    try {
      await options.fence();
      if (await sleepUnless(lease.lost, times.fenceMs, signal)) return lease;
      throw new Error(refusal(dataDir, parse((await read(path)) ?? '')));
    } catch (error) {
      // Whoever comes next has to wait for the same.
      await lease.end(false);
      throw error;
    }
  }
}

/** Watches a lease until it changes or `watchMs` are over. @returns what it says then */
async function watch(path: string, text: string, times: LeaseTimes, signal?: AbortSignal): Promise<string | undefined> {
  const began = performance.now();
  for (;;) {
    await sleep(times.beatMs / 10, undefined, { signal });
    const now = await read(path);
    if (now !== text || performance.now() - began > times.watchMs) return now;
  }
}

/** @returns whether the time is over without `event` */
async function sleepUnless(event: Promise<void>, milliseconds: number, signal?: AbortSignal): Promise<boolean> {
  const over = new AbortController();
  const either = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
  const slept = sleep(milliseconds, true, { signal: either });
  return await Promise.race([event.then(() => false), slept]).finally(() => over.abort());
}

function hold(path: string, own: Holder, times: LeaseTimes, log: Log): Lease {
  const stop = new AbortController();
  let well = true;
  let tellLost: () => void = () => undefined;
  const lost = new Promise<void>((resolve) => {
    tellLost = resolve;
  });
  const isOurs = (text: string) => parse(text)?.id === own.id;
  const beat = async (number: number): Promise<boolean> => {
    try {
      const text = await read(path);
      // Removed by hand: made anew, unless another comes first.
      if (text === undefined) await make(path, own);
      else if (isOurs(text)) await replaceFile(path, write(own, number), 0o600);
      else return false;
      well = true;
    } catch (error) {
      if (well) log.warn({ err: error, path }, 'no sign of life can be given to other machines');
      well = false;
    }
    return true;
  };
  const beating = (async () => {
    for (let number = 1; ; number++) {
      await sleep(times.beatMs, undefined, { signal: stop.signal, ref: false });
      if (await beat(number)) continue;
      tellLost();
      return;
    }
  })().catch(() => undefined);
  return {
    lost,
    async end(clean) {
      stop.abort();
      await beating;
      const text = clean ? await read(path) : undefined;
      if (text === undefined || !isOurs(text)) return;
      await unlink(path);
      await syncFolder(join(path, '..'));
    },
  };
}

async function thisMachine(dataDir: string): Promise<Machine> {
  // Two mounts of one folder have different sockets.
  const { dev, ino } = await stat(dataDir);
  const seen = ` ${dev}:${ino}`;
  if (process.platform !== 'linux') {
    const { stdout } = await promisify(execFile)('/usr/sbin/sysctl', ['-n', 'kern.bootsessionuuid']);
    return { boot: stdout.trim() + seen, local: false };
  }
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  return { boot: boot + seen, local: LOCAL.has((await statfs(dataDir)).type) };
}

/** File systems of Linux that one machine alone has mounted, by their magic numbers (statfs(2)). */
const LOCAL = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // XFS
  0x9123683e, // Btrfs
  0x2fc12fc1, // ZFS
  0xf2f52010, // F2FS
  0xca451a4e, // bcachefs
  0x01021994, // tmpfs
  0x794c7630, // overlayfs
]);

/** Makes the file. @returns false if another was faster */
async function make(path: string, own: Holder): Promise<boolean> {
  try {
    await writeFile(path, write(own, 0), { flag: 'wx', mode: 0o600, flush: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  await syncFolder(join(path, '..'));
  return true;
}

async function read(path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

function write(own: Holder, beat: number): string {
  return `${JSON.stringify({ ...own, beat })}\n`;
}

/** Undefined for what a crash left unfinished. */
function parse(text: string): Holder | undefined {
  try {
    return JSON.parse(text) as Holder;
  } catch {
    return undefined;
  }
}

function refusal(dataDir: string, holder: Holder | undefined): string {
  return (
    `The database of the data folder ${dataDir} is in use by a registry on another machine: ` +
    `the process ${holder?.pid ?? 'unknown'} on ${holder?.host ?? 'an unknown host'}. The embedded PostgreSQL is for one machine: stop that registry ` +
    'first, choose another REGISTRY_DATA_DIR, or let all nodes use one REGISTRY_DATABASE_URL.'
  );
}
