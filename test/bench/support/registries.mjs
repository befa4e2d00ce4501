// The registries that are measured, each in processes and a folder of its own.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../../scripts/free-port.mjs';

const START_MS = 300_000;
const DISTRIBUTION = 'v3.1.2';

/** A process that serves HTTP, started and stopped as often as it is wanted. */
export class Registry {
  #start;
  /** @param start given a free port, makes the process */
  constructor(name, start) {
    this.name = name;
    this.#start = start;
  }

  get pid() {
    return this.child.pid;
  }

  async start() {
    this.port = await freePort();
    this.child = await this.#start(this.port);
    for (const deadline = performance.now() + START_MS; ; await sleep(50)) {
      if (this.child.exitCode !== null) throw new Error(`${this.name} ended at its start`);
      if (performance.now() > deadline) throw new Error(`${this.name} does not start`);
      const answer = await fetch(`http://127.0.0.1:${this.port}/v2/`).catch(() => undefined);
      // Who comes without a key is told so, and may push all the same.
      if (answer?.ok || answer?.status === 401) return;
    }
  }

  async stop() {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    await exit;
  }
}

/** A folder that PostgreSQL's account can pass, and how to remove it. */
export async function makeFolder(parent = tmpdir()) {
  const path = await mkdtemp(join(parent, 'weighhouse-bench-'));
  await chmod(path, 0o711);
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 }) };
}

/** This registry as `npm start` runs a checkout that is built, with its own PostgreSQL, without keys. */
export function ours(name, checkout, settings) {
  const { PATH, HOME, NODE_OPTIONS = '' } = process.env;
  return new Registry(name, (port) =>
    spawn(process.execPath, ['bin/weighhouse.js', 'serve'], {
      cwd: checkout,
      env: {
        PATH,
        HOME,
        NODE_OPTIONS,
        REGISTRY_LISTEN: `127.0.0.1:${port}`,
        REGISTRY_ANONYMOUS: 'push',
        REGISTRY_LOG_LEVEL: 'warn',
        ...settings,
      },
      stdio: ['ignore', 'ignore', 'inherit'],
    }),
  );
}

/** distribution over S3, without keys; built once into the cache of the clients. */
export async function distribution(folder, { endpoint, bucket, accessKeyId, secretAccessKey }) {
  const program = installDistribution();
  return new Registry(`distribution ${DISTRIBUTION}`, async (port) => {
    const config = join(folder, 'distribution.yml');
    const s3 = {
      region: 'us-east-1',
      regionendpoint: endpoint,
      bucket,
      accesskey: accessKeyId,
      secretkey: secretAccessKey,
      forcepathstyle: true,
      secure: false,
      rootdirectory: '/distribution',
    };
    // JSON is YAML.
    await writeFile(
      config,
      JSON.stringify({
        version: 0.1,
        log: { level: 'error', accesslog: { disabled: true } },
        storage: { s3, redirect: { disable: true }, delete: { enabled: true } },
        http: { addr: `127.0.0.1:${port}` },
      }),
    );
    return spawn(program, ['serve', config], {
      env: { OTEL_TRACES_EXPORTER: 'none' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  });
}

function installDistribution() {
  const cache = join(
    process.env.XDG_CACHE_HOME || join(homedir(), '.cache'),
    'weighhouse',
    `distribution-${DISTRIBUTION}`,
  );
  const program = join(cache, 'registry');
  if (existsSync(program)) return program;
  mkdirSync(cache, { recursive: true });
  const args = [
    'install',
    '-p',
    '2',
    '-trimpath',
    `github.com/distribution/distribution/v3/cmd/registry@${DISTRIBUTION}`,
  ];
  const built = spawnSync('go', args, { env: { ...process.env, CGO_ENABLED: '0', GOBIN: cache }, stdio: 'inherit' });
  if (built.status !== 0) throw new Error('distribution can not be built: is go there?');
  return program;
}
