// A PostgreSQL of a cluster's own, which a test may stop and kill without harm to others.
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EmbeddedPostgres, startEmbedded } from '../../../src/database/embedded.js';
import { isAlive, signal, until } from '../../faults/support/processes.js';
import { silent } from '../../support/postgres.js';

export class ClusterDatabase {
  #postgres: EmbeddedPostgres | undefined;

  private constructor(readonly folder: string) {}

  static async start(): Promise<ClusterDatabase> {
    const folder = await mkdtemp(join(tmpdir(), 'weighhouse-postgres-'));
    // Started by root, PostgreSQL runs as another account, which has to pass.
    await chmod(folder, 0o711);
    const database = new ClusterDatabase(folder);
    await database.start();
    return database;
  }

  /** The same after each start. */
  get url(): string {
    if (!this.#postgres) throw new Error('PostgreSQL does not run');
    return this.#postgres.url;
  }

  /** Starts it, also after `stop` and `kill`; resolves when it answers. */
  async start(): Promise<void> {
    this.#postgres = await startEmbedded({ dataDir: this.folder, log: silent, settings: { max_connections: '200' } });
  }

  /** Disconnects everybody and ends in good order. */
  async stop(): Promise<void> {
    await this.#postgres?.stop();
  }

  /** kill -9 of the postmaster; its backends notice and end. */
  async kill(): Promise<void> {
    const file = join(this.#postgres?.place ?? '', 'cluster/postmaster.pid');
    const pid = Number((await readFile(file, 'utf8')).split('\n')[0]);
    signal(pid, 'SIGKILL');
    await until('PostgreSQL is gone', async () => !(await isAlive(pid)));
  }

  async dispose(): Promise<void> {
    await this.stop();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}
