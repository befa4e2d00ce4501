import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../support/server.js';
import { clustered, startClustered } from './clustered.js';
import { hostName, listenAddress, registrySettings, scheme } from './tls.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));

export interface RunningRegistry {
  /** host:port, as clients want it. */
  host: string;
  url: string;
  user: string;
  key: string;
  stop(): Promise<void>;
}

interface StartOptions {
  readonly workers?: number;
  readonly startSeconds?: number;
  /** More settings, or other ones. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** Starts the registry as a user would, on folders of its own, and waits until it answers. */
export async function startWeighhouse(options: StartOptions = {}): Promise<RunningRegistry> {
  const { workers = 2, startSeconds = 120, environment = {} } = options;
  if (clustered) return await startClustered(workers, environment);
  const data = await mkdtemp(join(tmpdir(), 'weighhouse-clients-'));
  // Started by root, PostgreSQL runs as another account; where that can't pass, its cluster would lie elsewhere and stay.
  await chmod(data, 0o711);
  const port = await freePort();
  const host = `${hostName}:${port}`;
  const key = 'an-admin-key-that-clients-tests-chose-0123456789';
  const child = spawn(process.execPath, ['bin/weighhouse.js', 'serve'], {
    cwd: root,
    env: {
      ...process.env,
      REGISTRY_LISTEN: `${listenAddress}:${port}`,
      REGISTRY_DATA_DIR: data,
      REGISTRY_ADMIN_KEY: key,
      REGISTRY_WORKERS: String(workers),
      // All clients come from one address, and each tries a wrong key.
      REGISTRY_AUTH_FAILURES_PER_KEY: '1000',
      REGISTRY_AUTH_FAILURES_PER_ADDRESS: '1000',
      ...registrySettings,
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  const keep = (text: Buffer): void => {
    log = `${log}${text.toString()}`.slice(-20_000);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const stop = async (): Promise<void> => {
    try {
      await end(child);
      if (child.exitCode !== 0) {
        throw new Error(`the registry ended with ${child.exitCode ?? child.signalCode}; it said:\n${log}`);
      }
    } finally {
      await rm(data, { recursive: true, force: true });
    }
  };
  const url = `${scheme}://${host}`;
  try {
    await untilAnswered(`${url}/v2/`, child, startSeconds);
  } catch (error) {
    await stop().catch(() => undefined);
    throw new Error(`the registry didn't start; it said:\n${log}`, { cause: error });
  }
  return { host, url, user: 'admin', key, stop };
}

async function untilAnswered(url: string, child: ChildProcess, seconds: number): Promise<void> {
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; ) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`ended with ${child.exitCode}`);
    const status = await fetch(url).then(
      (answer) => answer.status,
      () => undefined,
    );
    // 200 where no key is asked for.
    if (status === 401 || status === 200) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`no answer from ${url} within ${seconds} s`);
}

/** Ends a process that we started: asks, waits, and only then insists. */
export async function end(child: ChildProcess, patienceSeconds = 30): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const insist = setTimeout(() => child.kill('SIGKILL'), patienceSeconds * 1000);
  await ended;
  clearTimeout(insist);
}
