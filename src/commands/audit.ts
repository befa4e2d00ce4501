import type { Config } from '../config.js';
import type { Log } from '../log.js';
import { type Verified, verifyAudit } from '../metadata/audit-verify.js';
import { readArguments, UsageError } from './usage.js';
import { withDatabase } from './with-database.js';

const USAGE = `weighhouse audit verify [--head HASH]
    goes through the audit log and its seals, prints what they come to, and fails at the first row or seal that is
    missing, changed or added
    HASH  a head that an earlier run printed: fails if it is no longer one of the seals`;

/** Seals are made every few seconds; a transaction may take longer, up to this. */
const UNSEALED_SECONDS = 120;

/** `weighhouse audit …` */
export async function auditCommand(config: Config, log: Log, args: readonly string[]): Promise<void> {
  const options = { head: { type: 'string' }, help: { type: 'boolean', short: 'h' } } as const;
  const { values, positionals } = readArguments(args, options, USAGE);
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  if (positionals.join(' ') !== 'verify') throw new UsageError(USAGE);
  const head = values.head?.toLowerCase();
  if (head !== undefined && !/^[0-9a-f]{64}$/.test(head))
    throw new UsageError(`--head ${values.head} is not a hash of 64 hexadecimal digits\n\n${USAGE}`);
  const verified = await withDatabase(config, log, (database) => {
    return verifyAudit(database, { head, unsealedSeconds: UNSEALED_SECONDS });
  });
  process.stdout.write(describe(verified));
  if (verified.fault !== undefined) throw new Error(`the audit log is not as it was written: ${verified.fault}`);
}

function describe({ rows, seals, head = '-', unsealed }: Verified): string {
  return `rows      ${rows}\nseals     ${seals}\nunsealed  ${unsealed}\nhead      ${head}\n`;
}
