import { mkdir } from 'node:fs/promises';
import type { Config } from '../config.js';
import { connect, type Database } from '../database/connect.js';
import { lockDataFolder } from '../database/data-folder.js';
import { findRunning, startEmbedded } from '../database/embedded.js';
import type { Log } from '../log.js';
import { bringUpToDate } from './migrate.js';
import { Teardown } from './teardown.js';

/**
 * Runs `work` on the registry's database beside a registry that runs or does not: the operator's PostgreSQL, the embedded
 * one as it runs, or the embedded one, started for as long as this takes.
 * @param timeout what a statement may take, in seconds
 */
export async function withDatabase<T>(
  config: Config,
  log: Log,
  work: (database: Database, url: string) => Promise<T>,
  timeout = config.databaseTimeout,
): Promise<T> {
  const quiet = log.child({}, { level: log.isLevelEnabled('debug') ? 'debug' : 'warn' });
  const started = new Teardown(quiet);
  try {
    let url = config.databaseUrl || (await findRunning(config.dataDir));
    if (url === undefined) {
      await mkdir(config.dataDir, { recursive: true });
      const lock = await lockDataFolder(config.dataDir);
      started.add('the lock of the data folder', () => lock.release());
      const postgres = await startEmbedded({ dataDir: config.dataDir, log: quiet });
      started.add('PostgreSQL', () => postgres.stop());
      url = postgres.url;
      await bringUpToDate(config, url, quiet);
    }
    const database = connect({ url, pool: 1, timeout });
    started.add('connections to the database', () => database.close());
    return await work(database, url);
  } finally {
    await started.run();
  }
}
