// Equal nodes on one PostgreSQL and one bucket of a real Ceph, behind nginx.
import type { Context } from 'mocha';
import type { S3Options } from '../../../src/storage/s3/client.js';
import { empty, placeIn, settingsOf } from '../../ceph/support/bucket.js';
import { type Ceph, cephMissing, sharedCeph } from '../../ceph/support/ceph.js';
import { Gateway } from '../../ceph/support/gateway.js';
import { notRun } from '../../support/not-run.js';
import { isNginxThere, NGINX, type NginxOptions, startNginx, type TestNginx } from '../../support/nginx.js';
import { startServer, type TestServer } from '../../support/server.js';
import { ClusterDatabase } from './database.js';

export interface ClusterOptions {
  readonly nodes?: number;
  /** Processes that serve, on each node. */
  readonly workers?: number;
  /** More settings of each node, or other ones. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Whether each node reaches the gateway of Ceph through one of its own, that sees and counts. */
  readonly watched?: boolean;
  /** Where nginx listens, and with which certificate; plain HTTP without. */
  readonly address?: string;
  readonly certificate?: NginxOptions['certificate'];
}

export interface Node {
  readonly server: TestServer;
  /** Before Ceph's, if the cluster is watched. */
  readonly gateway: Gateway | undefined;
}

/** Why there can be no cluster here, if so. */
export function clusterMissing(): string | undefined {
  return cephMissing() ?? (isNginxThere() ? undefined : `${NGINX} is not there`);
}

/** For a hook: skips the tests, or fails with REQUIRE_ALL=1, where there can be no cluster. */
export function needCluster(context: Context): void {
  const missing = clusterMissing();
  if (missing) notRun(context, 'nodes behind nginx', missing);
}

const running = new Set<Cluster>();

/** Of a run that was broken off. */
export async function disposeClusters(): Promise<void> {
  for (const cluster of running) await cluster.dispose();
}

export class Cluster {
  private constructor(
    readonly ceph: Ceph,
    readonly place: S3Options,
    readonly database: ClusterDatabase,
    readonly nodes: readonly Node[],
    readonly nginx: TestNginx,
  ) {}

  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const [ceph, database] = await Promise.all([sharedCeph(), ClusterDatabase.start()]);
    const place = placeIn(ceph);
    const undo: (() => Promise<unknown>)[] = [() => database.dispose()];
    try {
      const nodes = await startNodes(options, ceph, place, database, undo);
      const { address = '127.0.0.1', certificate } = options;
      const hosts = nodes.map(({ server }) => server.host);
      const nginx = await startNginx({ nodes: hosts, address, certificate, tls: certificate !== undefined });
      const cluster = new Cluster(ceph, place, database, nodes, nginx);
      running.add(cluster);
      return cluster;
    } catch (error) {
      for (const step of undo.reverse()) await step().catch(() => undefined);
      throw error;
    }
  }

  /** `127.0.0.1:port` of nginx. */
  get host(): string {
    return this.nginx.host;
  }

  /** Stops everything but Ceph, where nothing is left of it. @throws when a node warned of something. */
  async dispose(): Promise<void> {
    running.delete(this);
    await this.nginx.dispose();
    const ended = await Promise.allSettled(this.nodes.map(({ server }) => server.dispose()));
    for (const { gateway } of this.nodes) await gateway?.close();
    await empty(this.place);
    await this.database.dispose();
    for (const end of ended) if (end.status === 'rejected') throw end.reason;
  }
}

/** What it takes to undo each is put into `undo` as it comes to be. */
async function startNodes(
  { nodes = 3, workers = 2, environment = {}, watched = false }: ClusterOptions,
  ceph: Ceph,
  place: S3Options,
  database: ClusterDatabase,
  undo: (() => Promise<unknown>)[],
): Promise<Node[]> {
  // All at once: only one of them brings the database up to date and marks the bucket.
  const started = await Promise.allSettled(
    Array.from({ length: nodes }, async () => {
      const gateway = watched ? await Gateway.before(ceph) : undefined;
      if (gateway) undo.push(() => gateway.close());
      const settings = settingsOf({ ...place, ...(gateway && { endpoint: gateway.endpoint }) });
      const server = await startServer({
        // A database of another's.
        embedded: true,
        tls: false,
        environment: {
          ...settings,
          REGISTRY_DATABASE_URL: database.url,
          REGISTRY_WORKERS: String(workers),
          REGISTRY_TRUSTED_PROXIES: '127.0.0.1/32',
          ...environment,
        },
      });
      undo.push(() => server.dispose());
      return { server, gateway };
    }),
  );
  return started.map((start) => {
    if (start.status === 'rejected') throw start.reason;
    return start.value;
  });
}
