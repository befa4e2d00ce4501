import { hostname } from 'node:os';
import type { Config } from '../config.js';
import type { CollectorObserver } from '../gc/collector.js';
import type { RetentionObserver } from '../gc/retention.js';
import type { RewriteObserver } from '../gc/rewriter.js';
import { connect, type Database } from '../database/connect.js';
import { Connections } from '../http/connections.js';
import { createOpsApp } from '../http/ops/app.js';
import { createHttpServer } from '../http/server.js';
import type { Log } from '../log.js';
import { installationOf } from '../registry/installation.js';
import { isAnyQuarantined } from '../registry/quarantine.js';
import { probeFolder, type Room } from '../storage/folder-check.js';
import type { SegmentStore } from '../storage/segment-store.js';
import { databaseCheck, diskCheck, Health, storageCheck } from './health.js';
import { addressError } from './listen-address.js';
import { GatheredMetrics } from './metrics-gathered.js';
import { collectorMetrics, retentionMetrics } from './metrics-collector.js';
import { compactionMetrics } from './metrics-compaction.js';
import { nodeMetrics } from './metrics-node.js';
import { scrubMetrics } from './metrics-scrub.js';
import type { ScrubbingObserver } from './scrubbing.js';
import { usageMetrics } from './metrics-usage.js';
import { readVersion } from './version.js';

/** What the last scrapes may take when the listener closes, in milliseconds. */
const CLOSE_MS = 1_000;

/**
 * What an operator sees of a node: its health and its metrics. The primary process finds out both, for its own listener
 * and for the workers, which ask for them.
 */
export class Operations {
  readonly #config: Config;
  readonly #log: Log;
  readonly #health: Health;
  readonly #metrics: GatheredMetrics;
  /** Counts what compaction does, where this node runs it. */
  readonly compaction: RewriteObserver;
  /** Counts what the collector does, where this node runs it. */
  readonly collector: CollectorObserver;
  /** Counts what retention does, where this node runs it. */
  readonly retention: RetentionObserver;
  /** Counts what the scrub does, where this node runs it. */
  readonly scrub: ScrubbingObserver;
  #connections: Connections | undefined;
  #database: Database | undefined;
  #room: Room | undefined;

  constructor(config: Config, log: Log, draining: () => boolean) {
    this.#config = config;
    this.#log = log;
    const version = readVersion();
    const health = new Health({ version, limitMs: config.healthTimeout * 1000, draining, log });
    this.#health = health;
    this.#metrics = new GatheredMetrics(config.workers, { 'health of the node': () => health.report() });
    this.compaction = compactionMetrics(this.#metrics.registry);
    this.collector = collectorMetrics(this.#metrics.registry);
    this.retention = retentionMetrics(this.#metrics.registry);
    this.scrub = scrubMetrics(this.#metrics.registry, () => this.#database);
    usageMetrics(this.#metrics.registry, () => this.#database);
    nodeMetrics(this.#metrics.registry, {
      version,
      health,
      draining,
      room: () => this.#room,
      queries: () => this.#database,
    });
  }

  /**
   * Opens the listener, if one is wanted, and begins to follow the workers. Health is bad until `watch`.
   * @throws Error in words for the operator when it can't listen.
   */
  async open(): Promise<void> {
    this.#metrics.start();
    const { operationsListen: address, idleTimeout, headersTimeout, keepAliveTimeout } = this.#config;
    if (!address) return;
    const app = createOpsApp({
      log: this.#log,
      idleMs: idleTimeout * 1000,
      health: () => this.#health.report(),
      metrics: this.#metrics.text,
    });
    const handle = app.callback();
    const server = createHttpServer((request, response) => void handle(request, response), {
      headersMs: headersTimeout * 1000,
      keepAliveMs: keepAliveTimeout * 1000,
      headerMaxBytes: this.#config.headerMaxBytes,
      urlMaxBytes: this.#config.urlMaxBytes,
      maxConnections: this.#config.maxConnections,
    });
    this.#connections = new Connections(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(addressError(error, address, 'REGISTRY_OPERATIONS_LISTEN')));
      server.listen({ ...address }, () => resolve());
    });
  }

  /** Begins to look at the database and the store, by connections of their own: a busy pool is not a bad one. */
  async watch(url: string, store: SegmentStore): Promise<void> {
    const { storage, filesystemRoot, dataDir, databaseUrl, healthTimeout, healthFreeBytes } = this.#config;
    const database = connect({ url, pool: 2, timeout: healthTimeout });
    this.#database = database;
    this.#health.watchBlobs(() => isAnyQuarantined(database));
    let installation = await installationOf(database);
    this.#health.watch(
      'database',
      databaseCheck(database, (now) => {
        installation = now;
      }),
    );
    // A bucket is asked over the network for its marker; a folder may be remembered.
    const probe = storage === 's3' ? () => Promise.resolve() : () => probeFolder(filesystemRoot, hostname());
    this.#health.watch(
      'storage',
      storageCheck(store, () => installation, probe),
    );
    const found = (room: Room) => {
      this.#room = room;
    };
    if (storage !== 's3') this.#health.watch('disk', diskCheck(filesystemRoot, healthFreeBytes, found));
    // What room a bucket has nobody can tell: then it is about an embedded database alone.
    else if (databaseUrl === '')
      this.#health.watch(
        'disk',
        diskCheck(dataDir, healthFreeBytes, () => undefined),
      );
    else this.#health.watch('disk', () => Promise.resolve());
  }

  /**
   * Begins to look whether clients are served, by any worker: one that dies must not take the node from the others'. Called
   * when all have come up: until then the node counts as not ready.
   */
  watchWorkers(serve: () => boolean): void {
    this.#health.watch('workers', async () => {
      if (!serve()) throw new Error('no worker serves');
    });
  }

  /** Gives the connections back; from now on the database counts as out. */
  async unwatch(): Promise<void> {
    await this.#database?.close();
  }

  /** Whether a check of health still waits for the storage, and may for ever. */
  get waits(): boolean {
    return this.#health.waits;
  }

  async close(): Promise<void> {
    this.#metrics.stop();
    await this.#connections?.end(0, CLOSE_MS);
  }
}
