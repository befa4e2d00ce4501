import type { Config } from '../config.js';
import type { Log } from '../log.js';
import { REBUILD_USAGE, rebuildCommand } from './rebuild.js';
import { readArguments, UsageError } from './usage.js';

const OPTIONS = {
  rebuild: { type: 'boolean' },
  'dry-run': { type: 'boolean' },
  'accept-loss': { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** `weighhouse fsck …` */
export async function fsckCommand(config: Config, log: Log, args: readonly string[]): Promise<void> {
  const { values, positionals } = readArguments(args, OPTIONS, REBUILD_USAGE);
  if (values.help) {
    process.stdout.write(`${REBUILD_USAGE}\n`);
    return;
  }
  if (!values.rebuild || positionals.length > 0) throw new UsageError(REBUILD_USAGE);
  await rebuildCommand(config, log, {
    dryRun: values['dry-run'] ?? false,
    acceptLoss: values['accept-loss'] ?? false,
    json: values.json ?? false,
  });
}
