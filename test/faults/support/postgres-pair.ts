// A PostgreSQL and its synchronous standby, which replicates from it by streams and can be promoted.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Account, findAccount, spawnOptions } from '../../../src/database/embedded-account.js';
import { findPrograms, type Programs } from '../../../src/database/embedded-programs.js';
import { freePort } from '../../support/server.js';
import { ask } from './oracle.js';
import { until } from './processes.js';

const run = promisify(execFile);

/** One server of the pair. */
export class PostgresNode {
  #process: ChildProcess | undefined;
  #said = '';

  constructor(
    readonly folder: string,
    readonly port: number,
    readonly programs: Programs,
    readonly account: Account,
  ) {}

  /** Of its database `weighhouse`, or of another. */
  url(database = 'weighhouse'): string {
    return `postgres://weighhouse@127.0.0.1:${this.port}/${database}?sslmode=disable`;
  }

  async start(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    const all = {
      listen_addresses: '127.0.0.1',
      port: String(this.port),
      unix_socket_directories: '',
      shared_buffers: '32MB',
      dynamic_shared_memory_type: 'mmap',
      // The machine stays up: what is shown here outlives the death of processes.
      fsync: 'off',
      wal_receiver_status_interval: '1s',
      ...settings,
    };
    const options = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const child = spawn(this.programs.postgres, ['-D', this.folder, ...options], {
      ...spawnOptions(this.account),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child.stderr.on('data', (text: Buffer) => {
      this.#said = (this.#said + text.toString()).slice(-4_000);
    });
    this.#process = child;
    await until('PostgreSQL answers', async () => {
      if (child.exitCode !== null) throw new Error(`PostgreSQL ended at its start: ${this.#said}`);
      return await ask(this.url('postgres'), 'select 1').then(
        () => true,
        () => false,
      );
    });
  }

  async end(signal: 'SIGINT' | 'SIGKILL'): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }
}

export class PostgresPair {
  private constructor(
    readonly folder: string,
    readonly primary: PostgresNode,
    readonly standby: PostgresNode,
  ) {}

  /** Both run, the standby has all that the primary acknowledges, and there is an empty database `weighhouse`. */
  static async make(): Promise<PostgresPair> {
    const folder = await mkdtemp(join(tmpdir(), 'weighhouse-pair-'));
    await chmod(folder, 0o711);
    const account = await findAccount(undefined);
    const programs = await findPrograms(account);
    const [one, other] = await Promise.all(
      ['one', 'other'].map(async (name) => {
        const place = join(folder, name);
        await mkdir(place, { mode: 0o700 });
        if (account.other) await chown(place, account.uid, account.gid);
        return new PostgresNode(place, await freePort(), programs, account);
      }),
    );
    if (!one || !other) throw new Error('there are no two');
    const initdb = ['-D', one.folder, '--username=weighhouse', '--auth=trust', '--encoding=UTF8', '--locale=C', '-N'];
    await run(programs.initdb, initdb, spawnOptions(account));
    // Copied before it ever ran, as a base backup.
    await run('cp', ['-Rp', `${one.folder}/.`, other.folder]);
    await writeFile(join(other.folder, 'standby.signal'), '');
    const pair = new PostgresPair(folder, one, other);
    await one.start({ synchronous_standby_names: 'other' });
    await other.start({
      primary_conninfo: `host=127.0.0.1 port=${one.port} user=weighhouse application_name=other`,
    });
    await until('the standby is synchronous', async () => {
      const rows = await ask(one.url('postgres'), `select from pg_stat_replication where sync_state = 'sync'`);
      return rows.length === 1;
    });
    await ask(one.url('postgres'), 'create database weighhouse');
    return pair;
  }

  /** The primary is killed, and the standby takes its place. @returns its url */
  async failOver(): Promise<string> {
    await this.primary.end('SIGKILL');
    await ask(this.standby.url(), 'select pg_promote(true)');
    return this.standby.url();
  }

  async clear(): Promise<void> {
    await this.primary.end('SIGKILL');
    await this.standby.end('SIGKILL');
    await rm(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}
