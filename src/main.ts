import cluster from 'node:cluster';
import { readVersion } from './commands/version.js';
import { type Config, ConfigError, describeSettings, readProcessConfig } from './config.js';
import { CommandError, UsageError } from './commands/usage.js';
import { type Log, openLog } from './log.js';

/** `args` is what follows the command's name. */
type Run = (config: Config, log: Log, args: readonly string[]) => Promise<void>;

// Each loads only what it needs: loading is most of what a start takes.
const commands: Record<string, { about: string; load(): Promise<Run>; takesArguments?: true }> = {
  serve: { about: 'runs the registry (the default)', load: async () => (await import('./commands/serve.js')).serve },
  migrate: {
    about: 'brings the database up to date and ends',
    load: async () => (await import('./commands/migrate.js')).migrateCommand,
  },
  check: {
    about: 'checks that releases, tags, artifacts and bytes agree',
    load: async () => (await import('./commands/check.js')).checkCommand,
  },
  collect: {
    about: 'tells what nothing names any more (--dry-run), or takes what is due',
    load: async () => (await import('./commands/collect.js')).collectCommand,
    takesArguments: true,
  },
  fsck: {
    about: 'compares blobs with their files or objects (--deep: hashes them), or rebuilds a lost database (--rebuild)',
    load: async () => (await import('./commands/fsck.js')).fsckCommand,
    takesArguments: true,
  },
  adopt: {
    about: 'makes the storage the one of this database, after a restore (stop all nodes before)',
    load: async () => (await import('./commands/adopt.js')).adoptCommand,
  },
  key: {
    about: 'create, list or revoke API keys',
    load: async () => (await import('./commands/key.js')).keyCommand,
    takesArguments: true,
  },
  visibility: {
    about: 'make repositories public or private',
    load: async () => (await import('./commands/visibility.js')).visibilityCommand,
    takesArguments: true,
  },
  token: {
    about: 'revoke every token that was given',
    load: async () => (await import('./commands/token.js')).tokenCommand,
    takesArguments: true,
  },
  audit: {
    about: 'verify that the audit log is as it was written',
    load: async () => (await import('./commands/audit.js')).auditCommand,
    takesArguments: true,
  },
};

function help(): string {
  const lines = Object.entries(commands).map(([name, { about }]) => `  weighhouse ${name.padEnd(11)} ${about}`);
  return `Weighhouse, an OCI registry for model weights\n\n${lines.join('\n')}\n  weighhouse --help      prints this\n  weighhouse --version   prints the version\n\nSettings (environment variables):\n${describeSettings()}\n`;
}

/** The process: reads the command and the settings, and wires the rooms. */
export async function main(argv: readonly string[]): Promise<void> {
  const [first = 'serve', ...rest] = argv;
  const ofCommand = commands[first]?.takesArguments === true;
  if (!ofCommand && (argv.includes('--help') || argv.includes('-h'))) {
    process.stdout.write(help());
    return;
  }
  if (!ofCommand && argv.includes('--version')) {
    process.stdout.write(`${readVersion()}\n`);
    return;
  }
  const command = commands[first];
  if (!command || (argv.length > 1 && !command.takesArguments)) {
    process.stderr.write(`weighhouse: unknown: ${argv.join(' ')}\n\n${help()}`);
    process.exitCode = 2;
    return;
  }
  try {
    const config = readProcessConfig();
    const log = await openLog(config.logLevel, config.logFormat, 2);
    const run = cluster.isWorker ? (await import('./commands/worker.js')).runAsWorker : await command.load();
    await run(config, log, rest);
  } catch (error) {
    process.stderr.write(`weighhouse: ${describe(error)}\n`);
    process.exit(exitCodeOf(error));
  }
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommandError) return error.exitCode;
  return error instanceof ConfigError || error instanceof UsageError ? 2 : 1;
}

/** Words for the operator, with their causes; a fault of the program itself with its stack. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof ConfigError || error instanceof UsageError) return error.message;
  if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError)
    return error.stack ?? error.message;
  // Of several addresses that were tried, Node tells only the parts.
  const parts: unknown[] = error instanceof AggregateError ? error.errors : [];
  const message = error.message || parts.map(describe).join('; ') || error.name;
  return error.cause === undefined ? message : `${message}\n  ${describe(error.cause)}`;
}
