import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Context } from 'mocha';
import { isNginxThere, NGINX, startNginx, type TestNginx } from '../../support/nginx.js';
import { notRun } from '../../support/not-run.js';
import { startServer, type TestServer } from '../../support/server.js';

/** Two nodes on one database and folder, and nginx before them. */
export interface TwoNodes {
  readonly nodes: readonly [TestServer, TestServer];
  readonly nginx: TestNginx;
  readonly folder: string;
  dispose(): Promise<void>;
}

export async function startTwoNodes(context: Context): Promise<TwoNodes> {
  if (!isNginxThere()) notRun(context, 'nginx', `${NGINX} is not there`);
  const folder = await mkdtemp(join(tmpdir(), 'weighhouse-deploy-'));
  const blobs = join(folder, 'blobs');
  const environment = {
    REGISTRY_WORKERS: '1',
    REGISTRY_TRUSTED_PROXIES: '127.0.0.1',
    REGISTRY_X_ACCEL_PREFIX: '/weighhouse-blobs/',
    REGISTRY_FILESYSTEM_ROOT: blobs,
  };
  const first = await startServer({ tls: false, environment });
  const { REGISTRY_DATABASE_URL = '' } = first.environment;
  const second = await startServer({ tls: false, environment: { ...environment, REGISTRY_DATABASE_URL } });
  const nginx = await startNginx({ nodes: [first.host, second.host], blobs });
  async function dispose(): Promise<void> {
    await nginx.dispose();
    // The database is the first one's.
    await second.dispose();
    await first.dispose();
    await rm(folder, { recursive: true, force: true });
  }
  return { nodes: [first, second], nginx, folder, dispose };
}
