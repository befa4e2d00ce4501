import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../support/server.js';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
const PATIENCE_MS = 60_000;

/** A command of weighhouse that is under way. */
export interface Running {
  readonly child: ChildProcess;
  /** How it ended, and all that it said. */
  readonly outcome: Promise<{ code: number | null; said: string }>;
}

/** Starts `weighhouse <command> <args>` as a user would, on a free port unless the environment says another. */
export async function startCommand(
  command: string,
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<Running> {
  const { PATH = '', HOME = '' } = process.env;
  const listen = `127.0.0.1:${await freePort()}`;
  const child = spawn(process.execPath, [join(ROOT, 'bin/weighhouse.js'), command, ...args], {
    cwd: ROOT,
    env: { PATH, HOME, REGISTRY_LISTEN: listen, REGISTRY_WORKERS: '2', REGISTRY_BCRYPT_COST: '4', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stdout.on('data', (text: Buffer) => {
    said += text.toString();
  });
  child.stderr.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
  const outcome = once(child, 'close').then(() => {
    clearTimeout(timer);
    return { code: child.exitCode, said };
  });
  return { child, outcome };
}

/** Runs a command to its end. */
export async function runCommand(
  command: string,
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
) {
  return await (await startCommand(command, environment, args)).outcome;
}
