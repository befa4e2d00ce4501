import type { Config } from '../config.js';
import { lockDataFolder } from '../database/data-folder.js';
import { startEmbedded } from '../database/embedded.js';
import { migrate } from '../database/migrate.js';
import type { Log } from '../log.js';

/** Brings the database up to date, so that an operator can do it before the new version starts. */
export async function migrateCommand(config: Config, log: Log): Promise<void> {
  if (config.databaseUrl !== '') {
    report(await migrate(config.databaseUrl, log));
    return;
  }
  const lock = await lockDataFolder(config.dataDir);
  const postgres = await startEmbedded({ dataDir: config.dataDir, log });
  try {
    report(await migrate(postgres.url, log));
  } finally {
    await postgres.stop();
    await lock.release();
  }
}

function report(applied: readonly string[]): void {
  process.stdout.write(applied.length === 0 ? 'the database is up to date\n' : `applied ${applied.join(', ')}\n`);
}
