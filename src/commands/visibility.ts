import { setTimeout as sleep } from 'node:timers/promises';
import { parsePattern } from '../auth/grants.js';
import { REVOKED_MS } from '../auth/lease.js';
import { listVisibility, setVisibility } from '../auth/visibility.js';
import type { Config } from '../config.js';
import { RegistryError } from '../errors.js';
import type { Log } from '../log.js';
import { locally } from './audit-access.js';
import { readArguments, UsageError } from './usage.js';
import { withDatabase } from './with-database.js';

const USAGE = `weighhouse visibility list
    lists the rules; the most specific one that fits a repository decides, and without one REGISTRY_ANONYMOUS does
weighhouse visibility public PATTERN
    everybody may pull from these repositories
weighhouse visibility private PATTERN
    only keys with a grant may
weighhouse visibility default PATTERN
    takes the rule of this very pattern away`;

/** `weighhouse visibility …` */
export async function visibilityCommand(config: Config, log: Log, args: readonly string[]): Promise<void> {
  const { values, positionals } = readArguments(args, { help: { type: 'boolean', short: 'h' } }, USAGE);
  const [verb, pattern, ...more] = positionals;
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  if (verb === 'list' && pattern === undefined) {
    const rules = await withDatabase(config, log, listVisibility);
    process.stdout.write(rules.map((rule) => `${rule.isPublic ? 'public ' : 'private'}  ${rule.pattern}\n`).join(''));
    return;
  }
  const wanted = { public: true, private: false, default: undefined };
  if (verb === undefined || !Object.hasOwn(wanted, verb) || pattern === undefined || more.length > 0)
    throw new UsageError(USAGE);
  const known = checkPattern(pattern);
  const changed = await withDatabase(config, log, async (database) => {
    const done = await setVisibility(database, known, wanted[verb as keyof typeof wanted], locally());
    // By then it holds in every process.
    await sleep(REVOKED_MS);
    return done;
  });
  process.stdout.write(changed ? `${known} is ${verb} now\n` : 'nothing to change\n');
}

function checkPattern(text: string): string {
  try {
    return parsePattern(text);
  } catch (error) {
    if (error instanceof RegistryError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}
