// A PostgreSQL of which dumps are made while a registry works on it: Debian's, which brings pg_dump along.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findAccount, spawnOptions } from '../../../src/database/embedded-account.js';
import type { Programs } from '../../../src/database/embedded-programs.js';
import { freePort } from '../../support/server.js';
import { ask } from './oracle.js';
import { PostgresNode } from './postgres-pair.js';

const run = promisify(execFile);
const INSTALLED = '/usr/lib/postgresql';

/** Why there can be none here, if so. */
export async function dumpMissing(): Promise<string | undefined> {
  return (await findFolder()) ? undefined : 'there is no PostgreSQL with pg_dump in /usr/lib/postgresql';
}

async function findFolder(): Promise<string | undefined> {
  const versions = await readdir(INSTALLED).catch(() => []);
  return versions
    .map((version) => join(INSTALLED, version, 'bin'))
    .find((bin) => ['postgres', 'initdb', 'pg_dump', 'pg_restore'].every((name) => existsSync(join(bin, name))));
}

export class DumpedPostgres {
  private constructor(
    readonly folder: string,
    readonly bin: string,
    readonly node: PostgresNode,
  ) {}

  static async start(): Promise<DumpedPostgres> {
    const bin = await findFolder();
    if (bin === undefined) throw new Error('there is no PostgreSQL with pg_dump');
    const folder = await mkdtemp(join(tmpdir(), 'weighhouse-dump-'));
    await chmod(folder, 0o711);
    const account = await findAccount(undefined);
    const cluster = join(folder, 'cluster');
    await mkdir(cluster, { mode: 0o700 });
    if (account.other) await chown(cluster, account.uid, account.gid);
    const programs = { postgres: join(bin, 'postgres'), initdb: join(bin, 'initdb') } as unknown as Programs;
    const initdb = ['-D', cluster, '--username=weighhouse', '--auth=trust', '--encoding=UTF8', '--locale=C', '-N'];
    await run(programs.initdb, initdb, spawnOptions(account));
    const node = new PostgresNode(cluster, await freePort(), programs, account);
    await node.start();
    return new DumpedPostgres(folder, bin, node);
  }

  async create(name: string): Promise<string> {
    await ask(this.node.url('postgres'), `create database ${name}`);
    return this.node.url(name);
  }

  /** @returns the file */
  async dump(name: string): Promise<string> {
    const file = join(this.folder, `${name}.dump`);
    await run(join(this.bin, 'pg_dump'), ['--format=custom', '--file', file, this.node.url(name)]);
    return file;
  }

  /** Into a new database. @returns its url */
  async restore(file: string, name: string): Promise<string> {
    const url = await this.create(name);
    await run(join(this.bin, 'pg_restore'), ['--exit-on-error', '--dbname', url, file]);
    return url;
  }

  async drop(name: string): Promise<void> {
    await ask(this.node.url('postgres'), `drop database ${name} with (force)`);
  }

  async clear(): Promise<void> {
    await this.node.end('SIGINT');
    await rm(this.folder, { recursive: true, force: true });
  }
}
