import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'weighhouse');
const CLIENTS = process.env.WEIGHHOUSE_CLIENTS || join(CACHE, 'clients');
const FOLDERS = [join(CLIENTS, 'bin'), ...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];

/** Where a program is, among the clients (`npm run clients:install`) and on PATH. */
export function find(program: string): string | undefined {
  return FOLDERS.map((folder) => join(folder, program)).find((file) => existsSync(file));
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Whether an exit code other than 0 is all right. */
  readonly mayFail?: boolean;
}

/** Runs a program to its end. @throws Error with what it said when it fails, unless it may. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const env = { ...process.env, PATH: FOLDERS.join(delimiter), ...options.env };
  const child = spawn(find(program) ?? program, args, { cwd: options.cwd ?? ROOT, env, stdio: 'pipe' });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text;
    });
  }
  // It may end without having read its input.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0 && !options.mayFail) {
    const words = `${said.stdout}\n${said.stderr}`.trim().slice(-5000);
    throw new Error(`${program} ${args.join(' ')}: ended with ${code ?? child.signalCode}\n${words}`);
  }
  return { code, ...said };
}
