import type { Config } from '../config.js';
import type { Log } from '../log.js';
import { adoptStore } from '../registry/installation.js';
import { placeOfBlobs, prepareStore } from './storage.js';
import { withDatabase } from './with-database.js';

/**
 * `weighhouse adopt`: what an operator says who restored the bytes, or moved them, or lost them all: that the storage of
 * the settings is the database's from now on.
 */
export async function adoptCommand(config: Config, log: Log): Promise<void> {
  await withDatabase(config, log, (database) => prepareStore(config, database, log, adoptStore));
  process.stdout.write(`${placeOfBlobs(config)} is the storage of this database now\n`);
}
