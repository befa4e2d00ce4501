// Runs schemathesis on a registry of ours that holds a little: what it makes up from spec/openapi.yaml, right and wrong, must
// be answered as that says.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { clientsCache } from '../clients/support/scenario.js';
import { stopSharedPostgres } from '../support/postgres.js';
import { ADMIN_KEY, startServer } from '../support/server.js';
import { seed } from './seed.js';

const HERE = fileURLToPath(new URL('../../../test/schemathesis/', import.meta.url));
const PROGRAM = join(clientsCache, 'schemathesis', 'bin', 'st');
/** Fuzzing and the walks along links are cut off there. */
const RUN_SECONDS = 200;
const INSIST_MS = 600_000;

async function run(url: string, ownKeys: readonly string[]): Promise<number> {
  // It keeps what it learns in the folder where it runs.
  const folder = await mkdtemp(join(tmpdir(), 'weighhouse-schemathesis-'));
  const { PATH = '' } = process.env;
  const options = ['--config-file', join(HERE, 'schemathesis.toml'), 'run', `${url}/api/openapi.json`];
  const child = spawn(PROGRAM, [...options, '--max-time', String(RUN_SECONDS), ...process.argv.slice(2)], {
    cwd: folder,
    env: {
      PATH,
      HOME: folder,
      PYTHONPATH: HERE,
      PYTHONDONTWRITEBYTECODE: '1',
      SCHEMATHESIS_API_KEY: ADMIN_KEY,
      SCHEMATHESIS_OWN_KEYS: ownKeys.join(' '),
    },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const insist = setTimeout(() => child.kill('SIGKILL'), INSIST_MS);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return code ?? 1;
  } finally {
    clearTimeout(insist);
    await rm(folder, { recursive: true, force: true });
  }
}

async function main(): Promise<number> {
  if (!existsSync(PROGRAM)) {
    console.log('not run: schemathesis: the program is not installed (npm run clients:install)');
    return process.env.REQUIRE_ALL === '1' ? 1 : 0;
  }
  const server = await startServer();
  try {
    const code = await run(server.url, await seed(server));
    console.log(code === 0 ? 'schemathesis: passed' : `schemathesis: failed (${code})`);
    return code;
  } finally {
    await server.dispose();
    await stopSharedPostgres();
  }
}

process.exitCode = await main();
