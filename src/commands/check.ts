import type { Config } from '../config.js';
import type { Log } from '../log.js';
import { checkAll } from '../metadata/check.js';
import { withDatabase } from './with-database.js';

/** `weighhouse check`: what must hold over the whole database, beside a registry that serves or not. */
export async function checkCommand(config: Config, log: Log): Promise<void> {
  const broken = await withDatabase(config, log, async (database) => {
    let faults = 0;
    for await (const checked of checkAll(database)) {
      process.stdout.write(`${checked.faults.length === 0 ? 'ok    ' : 'BROKEN'}  ${checked.name}\n`);
      for (const fault of checked.faults) process.stdout.write(`        ${fault}\n`);
      faults += checked.faults.length;
    }
    return faults;
  });
  if (broken > 0) throw new Error(`${broken} faults in the database`);
}
