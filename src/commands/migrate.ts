import { mkdir } from 'node:fs/promises';
import type { Config } from '../config.js';
import { lockDataFolder } from '../database/data-folder.js';
import { startEmbedded } from '../database/embedded.js';
import { migrate } from '../database/migrate.js';
import type { Log } from '../log.js';
import { Teardown } from './teardown.js';

/** Brings the database up to date, so that an operator can do it before the new version starts. */
export async function migrateCommand(config: Config, log: Log): Promise<void> {
  const started = new Teardown(log);
  // Half a migration is undone by PostgreSQL; what must not be is a PostgreSQL that nobody stops.
  const onSignal = () => log.info('the migration is run to its end first');
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  try {
    let url = config.databaseUrl;
    if (url === '') {
      await mkdir(config.dataDir, { recursive: true });
      const lock = await lockDataFolder(config.dataDir);
      started.add('the lock of the data folder', () => lock.release());
      const postgres = await startEmbedded({ dataDir: config.dataDir, log });
      started.add('PostgreSQL', () => postgres.stop());
      url = postgres.url;
    }
    const applied = await bringUpToDate(config, url, log);
    process.stdout.write(applied.length === 0 ? 'the database is up to date\n' : `applied ${applied.join(', ')}\n`);
  } finally {
    await started.run();
    process.off('SIGTERM', onSignal).off('SIGINT', onSignal);
  }
}

/** Migrates. @throws Error that says whose database it is. */
export async function bringUpToDate(config: Config, url: string, log: Log): Promise<string[]> {
  try {
    return await migrate(url, log);
  } catch (cause) {
    if (config.databaseUrl === '') throw cause;
    throw new Error('the database of REGISTRY_DATABASE_URL can not be used', { cause });
  }
}
