// A real Ceph on loopback for a run, started by ../shared/ceph/ceph-dev beside the checkout when the first test wants it.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Context } from 'mocha';
import { notRun } from '../../support/not-run.js';
import { freePort } from '../../support/server.js';

const run = promisify(execFile);

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
const PROGRAM = process.env.CEPH_DEV ?? resolve(ROOT, '../shared/ceph/ceph-dev');
/** How many ports its daemons choose from, beyond the first. */
const MESSENGERS = 50;
/** So soon radosgw gives up on a dead OSD; otherwise it never does. */
export const OSD_TIMEOUT_SECONDS = 2;

/** The gateway of a running cluster, and how to do it harm. */
export class Ceph {
  private constructor(
    readonly folder: string,
    readonly environment: NodeJS.ProcessEnv,
    readonly port: number,
  ) {}

  /** @param osdSize how much it holds, with room for what was removed a minute ago; a sparse file. */
  static async start(osdSize = '24G'): Promise<Ceph> {
    if (process.getuid?.() === 0) await run(PROGRAM, ['install'], { maxBuffer: 2 ** 26 });
    // Sockets lie in it: its path must be short.
    const folder = join(await mkdtemp('/tmp/weighhouse-ceph-'), 'd');
    const messengers = await freePort();
    const beside = async (): Promise<number> => {
      const port = await freePort();
      return port < messengers || port > messengers + MESSENGERS ? port : await beside();
    };
    const port = await beside();
    const environment = {
      ...process.env,
      S3_PORT: String(port),
      MON_PORT: String(await beside()),
      MSGR_PORTS: `${messengers}-${messengers + MESSENGERS}`,
      OSD_SIZE: osdSize,
      RGW_OP_TIMEOUT: String(OSD_TIMEOUT_SECONDS),
    };
    const ceph = new Ceph(folder, environment, port);
    try {
      await ceph.up();
    } catch (error) {
      await ceph.wipe().catch(() => undefined);
      throw error;
    }
    return ceph;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts what does not run; resolves when a PUT and a GET work. */
  async up(): Promise<void> {
    await this.#call('up', this.folder);
  }

  /** Mounts CephFS, too. @returns where. */
  async upWithFolder(): Promise<string> {
    this.environment.CEPHFS = '1';
    await this.up();
    return join(this.folder, 'cephfs');
  }

  async killOsd(): Promise<void> {
    await this.#call('kill-osd', '0', this.folder);
  }

  async startOsd(): Promise<void> {
    await this.#call('start-osd', '0', this.folder);
  }

  /** SIGKILL ends the gateway, SIGSTOP makes it hang, until SIGCONT. */
  async signalGateway(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    process.kill(await this.pid('client.rgw'), signal);
  }

  /** The process of a daemon, such as `client.rgw` or `osd.0`. */
  async pid(daemon: string): Promise<number> {
    return Number(await readFile(join(this.folder, `run/${daemon}.pid`), 'utf8'));
  }

  /** Gives the gateway a name, before which buckets may stand; an empty one takes it away. Starts it again. */
  async callGateway(name: string): Promise<void> {
    const words = name === '' ? ['rm', 'client.rgw', 'rgw_dns_name'] : ['set', 'client.rgw', 'rgw_dns_name', name];
    await run('ceph', ['--conf', join(this.folder, 'ceph.conf'), 'config', ...words]);
    await this.signalGateway('SIGKILL');
    await this.up();
  }

  async wipe(): Promise<void> {
    await this.#call('wipe', this.folder);
    await rm(resolve(this.folder, '..'), { recursive: true, force: true });
  }

  async #call(...words: string[]): Promise<void> {
    await run(PROGRAM, words, { env: this.environment, maxBuffer: 2 ** 26 });
  }
}

let shared: Promise<Ceph> | undefined;
let mounts: Promise<Mounts> | undefined;

/** CephFS as two machines see it: each mount is a client of Ceph with a cache of its own. */
export interface Mounts {
  readonly ceph: Ceph;
  readonly first: string;
  readonly second: string;
}

/** Both mounts of this run's cluster; the test is skipped, or fails with REQUIRE_ALL=1, where there can be none. */
export async function sharedMounts(context: Context): Promise<Mounts> {
  if (process.getuid?.() !== 0) notRun(context, 'CephFS', 'mounting it needs root');
  if (!existsSync('/dev/fuse')) notRun(context, 'CephFS', 'there is no /dev/fuse');
  const ceph = await sharedCeph(context);
  mounts ??= mountTwice(ceph);
  return await mounts;
}

async function mountTwice(ceph: Ceph): Promise<Mounts> {
  const first = await ceph.upWithFolder();
  const second = resolve(ceph.folder, '../second');
  await mkdir(second);
  const files = ['--log-file', resolve(ceph.folder, '../second.log'), '--admin-socket', ''];
  const conf = ['-c', join(ceph.folder, 'ceph.conf'), '--name', 'client.second'];
  // It goes to the background when it is mounted.
  await run('ceph-fuse', [second, ...conf, ...files]);
  return { ceph, first, second };
}

async function unmountSecond(): Promise<void> {
  const mounted = await mounts?.catch(() => undefined);
  if (!mounted) return;
  // An OSD that a test left dead would let it hang.
  await mounted.ceph.startOsd();
  await run('umount', [mounted.second]);
}

/** Why there can be none here, if so. */
export function cephMissing(): string | undefined {
  return existsSync(PROGRAM) ? undefined : 'there is no ../shared/ceph/ceph-dev beside the checkout';
}

/** The cluster of this run; the test is skipped, or fails with REQUIRE_ALL=1, where there can be none. */
export async function sharedCeph(context?: Context): Promise<Ceph> {
  const missing = cephMissing();
  if (missing && context) notRun(context, 'Ceph', missing);
  shared ??= Ceph.start();
  return await shared;
}

/** After the last test. */
export async function stopCeph(): Promise<void> {
  await unmountSecond();
  await (await shared?.catch(() => undefined))?.wipe();
}
