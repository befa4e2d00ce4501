import { readdir, readFile, readlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestServer } from '../../support/server.js';
import { send } from './exchange.js';

/** Whether a process runs; one that nobody reaps doesn't. */
export async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return status !== '' && !/\) [ZX] /.test(status);
}

/** Sends a signal; a process that is gone is as good. */
export function signal(pid: number, name: NodeJS.Signals): void {
  // 0 and less are groups of processes, and the suite is in one of them.
  if (pid <= 1) throw new RangeError(`no process has the pid ${pid} here`);
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

export async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').filter(Boolean).map(Number);
}

/** What a process has open, as the kernel names it. */
export async function descriptorsOf(pid: number): Promise<string[]> {
  const names = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const targets = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')));
  return targets.filter((target) => target !== '');
}

/** The kernel's table of TCP sockets, as fields of lines. */
async function tcpSockets(): Promise<string[][]> {
  return (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/));
}

const addressOf = (port: number) => `:${port.toString(16).toUpperCase().padStart(4, '0')}`;

/** The sockets of a TCP port of this machine, under the names that `descriptorsOf` gives. */
export async function socketsAt(port: number): Promise<Set<string>> {
  const lines = await tcpSockets();
  return new Set(
    lines.filter((fields) => fields[1]?.endsWith(addressOf(port))).map((fields) => `socket:[${fields[9]}]`),
  );
}

/** Waits until a registry has accepted every connection and read all that clients of this machine sent it. */
export async function untilTaken(server: TestServer): Promise<void> {
  const address = addressOf(Number(server.host.split(':')[1]));
  await until('the registry has taken what was sent', async () =>
    (await tcpSockets()).every(([, local, remote, , queues = '']) => {
      const [unsent, unread] = queues.split(':').map((size) => Number.parseInt(size, 16));
      // Of a socket that listens, connections that nobody has accepted count as unread.
      return !(local?.endsWith(address) && unread) && !(remote?.endsWith(address) && unsent);
    }),
  );
}

/** Memory of a process in MiB: resident, its proportional share, and the highest that was ever resident. */
export async function memoryOf(pid: number): Promise<{ rss: number; pss: number; peak: number }> {
  const [status, rollup] = await Promise.all([
    readFile(`/proc/${pid}/status`, 'utf8').catch(() => ''),
    readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => ''),
  ]);
  const mebibytes = (text: string, name: string) =>
    Math.round(Number(new RegExp(`^${name}:\\s+([0-9]+) kB`, 'm').exec(text)?.[1] ?? 0) / 1024);
  return { rss: mebibytes(status, 'VmRSS'), pss: mebibytes(rollup, 'Pss'), peak: mebibytes(status, 'VmHWM') };
}

/** Waits until `check` holds. @throws Error that says what did not come to pass. */
export async function until(
  what: string,
  check: () => Promise<boolean> | boolean,
  milliseconds = 20_000,
): Promise<void> {
  const deadline = performance.now() + milliseconds;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`it did not come to pass that ${what}`);
    await sleep(20);
  }
}

/** Waits until a registry has logged something: its lines come a moment after what they tell of. */
export async function untilLogged(server: TestServer, what: string | RegExp): Promise<void> {
  await until(`${String(what)} is logged`, async () => {
    const log = await server.log();
    return typeof what === 'string' ? log.includes(what) : what.test(log);
  });
}

/** How many connections each worker holds. */
export async function socketsOf(server: TestServer): Promise<{ pid: number; count: number }[]> {
  const sockets = await socketsAt(Number(server.host.split(':')[1]));
  const workers = await server.workers();
  return await Promise.all(
    workers.map(async (pid) => ({
      pid,
      count: (await descriptorsOf(pid)).filter((name) => sockets.has(name)).length,
    })),
  );
}

/** How many sockets of the registry's port a process has open, one that listens included. */
export async function openSockets(server: TestServer, pid: number): Promise<number> {
  const sockets = await socketsAt(Number(server.host.split(':')[1]));
  return (await descriptorsOf(pid)).filter((name) => sockets.has(name)).length;
}

/** Waits until every worker that the settings ask for is given connections, and no other. */
export async function allServe(server: TestServer): Promise<void> {
  const wanted = Number(server.environment.REGISTRY_WORKERS);
  await until('all workers serve', async () => {
    const metrics = (await send(server.host, 'GET', '/metrics'))?.body.toString() ?? '';
    const up = /^weighhouse_workers_up ([0-9]+)$/m.exec(metrics)?.[1];
    return Number(up) === wanted && (await server.workers()).length === wanted;
  });
}
