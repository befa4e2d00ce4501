import cluster from 'node:cluster';
import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { migrateCommand } from './commands/migrate.js';
import { serve } from './commands/serve.js';
import { runWorker } from './commands/worker.js';
import { type Config, ConfigError, describeSettings, readProcessConfig } from './config.js';
import { createLog, type Log } from './log.js';

const commands: Record<string, { about: string; run(config: Config, log: Log): Promise<void> }> = {
  serve: { about: 'runs the registry (the default)', run: serve },
  migrate: { about: 'brings the database up to date and ends', run: migrateCommand },
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
    if (cluster.isWorker) await runWorker(config, log);
    else await command.run(config, log);
  } catch (error) {
    const told =
      error instanceof ConfigError || !(error instanceof Error) ? String(error) : (error.stack ?? error.message);
    process.stderr.write(`weighhouse: ${told}\n`);
    process.exit(error instanceof ConfigError ? 2 : 1);
  }
}
