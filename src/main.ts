import cluster from 'node:cluster';
import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { type Config, ConfigError, describeSettings, readProcessConfig } from './config.js';
import { createLog, type Log } from './log.js';

type Run = (config: Config, log: Log) => Promise<void>;

// Each loads only what it needs: loading is most of what a start takes.
const commands: Record<string, { about: string; load(): Promise<Run> }> = {
  serve: { about: 'runs the registry (the default)', load: async () => (await import('./commands/serve.js')).serve },
  migrate: {
    about: 'brings the database up to date and ends',
    load: async () => (await import('./commands/migrate.js')).migrateCommand,
  },
};

function help(): string {
  const lines = Object.entries(commands).map(([name, { about }]) => `  weighhouse ${name.padEnd(10)} ${about}`);
  return `Weighhouse, an OCI registry for model weights\n\n${lines.join('\n')}\n  weighhouse --help     prints this\n  weighhouse --version  prints the version\n\nSettings (environment variables):\n${describeSettings()}\n`;
}

/** The process: reads the command and the settings, and wires the rooms. */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(help());
    return;
  }
  if (argv.includes('--version')) {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    process.stdout.write(`${version}\n`);
    return;
  }
  const name = argv[0] ?? 'serve';
  const command = commands[name];
  if (!command || argv.length > 1) {
    process.stderr.write(`weighhouse: unknown: ${argv.join(' ')}\n\n${help()}`);
    process.exitCode = 2;
    return;
  }
  try {
    const config = readProcessConfig();
    const log = createLog(config.logLevel, pino.destination({ fd: 2, sync: false }));
    const run = cluster.isWorker ? (await import('./commands/worker.js')).runAsWorker : await command.load();
    await run(config, log);
  } catch (error) {
    process.stderr.write(`weighhouse: ${describe(error)}\n`);
    process.exit(error instanceof ConfigError ? 2 : 1);
  }
}

/** Words for the operator, with their causes; a fault of the program itself with its stack. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof ConfigError) return error.message;
  if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError)
    return error.stack ?? error.message;
  // Of several addresses that were tried, Node tells only the parts.
  const parts: unknown[] = error instanceof AggregateError ? error.errors : [];
  const message = error.message || parts.map(describe).join('; ') || error.name;
  return error.cause === undefined ? message : `${message}\n  ${describe(error.cause)}`;
}
