import { setTimeout as sleep } from 'node:timers/promises';
import { REVOKED_MS } from '../auth/lease.js';
import { revokeAllTokens } from '../auth/signing-keys.js';
import type { Config } from '../config.js';
import type { Log } from '../log.js';
import { locally } from './audit-access.js';
import { readArguments, UsageError } from './usage.js';
import { withDatabase } from './with-database.js';

const USAGE = `weighhouse token revoke-all
    makes every token that was ever given worthless, refresh tokens too, signs every browser out, and returns when that
    holds everywhere; clients that have a key fetch new ones by themselves`;

/** `weighhouse token …` */
export async function tokenCommand(config: Config, log: Log, args: readonly string[]): Promise<void> {
  const { values, positionals } = readArguments(args, { help: { type: 'boolean', short: 'h' } }, USAGE);
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  if (positionals.join(' ') !== 'revoke-all') throw new UsageError(USAGE);
  await withDatabase(config, log, async (database) => {
    await revokeAllTokens(database, locally());
    await sleep(REVOKED_MS);
  });
  process.stdout.write('all tokens are revoked\n');
}
