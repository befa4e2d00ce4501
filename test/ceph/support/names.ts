import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Context } from 'mocha';
import { notRun } from '../../support/not-run.js';

const run = promisify(execFile);

/**
 * What to put before a command so that these names are this machine to it, and to nobody else: a mount namespace with an
 * /etc/hosts of its own. The test is skipped, or fails with REQUIRE_ALL=1, where there can be none.
 */
export async function underNames(context: Context, folder: string, names: readonly string[]): Promise<string[]> {
  const hosts = join(folder, 'hosts');
  await writeFile(hosts, `127.0.0.1 ${['localhost', ...names].join(' ')}\n`);
  const command = ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', hosts];
  const [program = '', ...words] = command;
  await run(program, [...words, 'getent', 'hosts', ...names.slice(0, 1)]).catch((error: unknown) =>
    notRun(context, 'names of hosts', `no mount namespace can be made: ${String(error).split('\n')[0]}`),
  );
  return command;
}
