import { Gauge, type Registry } from 'prom-client';
import type { Queries } from '../database/connect.js';
import { CHECKS } from '../http/ops/health.js';
import { countOpenUploads } from '../registry/upload-sessions.js';
import type { Room } from '../storage/folder-check.js';
import type { Health } from './health.js';
import { gauge } from './metrics-process.js';
import { shared, within } from './shared-answer.js';

/** How long a scrape waits for PostgreSQL and the checks, in milliseconds. */
const PATIENCE_MS = 2_000;
/** Sessions are counted up to here: a scrape is to stay cheap. */
const MAX_SESSIONS = 100_000;

/** What the metrics of a node are read from; undefined as long as it is not there. */
export interface NodeSources {
  readonly version: string;
  readonly health: Health;
  readonly draining: () => boolean;
  room(): Room | undefined;
  queries(): Queries | undefined;
}

/** The metrics that are a node's and not a process's. What is not known is NaN, which Prometheus shows as a gap. */
export function nodeMetrics(registry: Registry, sources: NodeSources): void {
  const registers = [registry];
  const { version, health, draining, room } = sources;
  const started = Date.now() / 1000 - process.uptime();
  new Gauge({
    name: 'weighhouse_build_info',
    help: 'Always 1; the versions of Weighhouse and of Node.',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version, node: process.version }, 1);
  gauge(registry, 'weighhouse_start_time_seconds', 'When the node was started, since 1970.', () => started);
  gauge(registry, 'weighhouse_draining', '1 while the node takes no new work because it stops.', () =>
    draining() ? 1 : 0,
  );
  new Gauge({
    name: 'weighhouse_health_check_up',
    help: '1 if this check of /health is well, 0 if it is out.',
    labelNames: ['check'],
    registers,
    async collect() {
      const report = await within(PATIENCE_MS, health.report()).catch(() => undefined);
      for (const check of CHECKS) this.set({ check }, report?.checks[check].status === 'ok' ? 1 : 0);
    },
  });
  gauge(
    registry,
    'weighhouse_storage_size_bytes',
    'Size of the file system of the blobs; no number with blobs in a bucket.',
    () => Number(room()?.size ?? Number.NaN),
  );
  gauge(
    registry,
    'weighhouse_storage_free_bytes',
    'Room that is left in the file system of the blobs; no number with blobs in a bucket.',
    () => Number(room()?.free ?? Number.NaN),
  );
  const count = shared(0, async () => {
    const queries = sources.queries();
    return queries ? await countOpenUploads(queries, MAX_SESSIONS) : Number.NaN;
  });
  new Gauge({
    name: 'weighhouse_upload_sessions_open',
    help: `Upload sessions of the whole registry that can be resumed, up to ${MAX_SESSIONS}; the same on every node.`,
    registers,
    async collect() {
      this.set(await within(PATIENCE_MS, count()).catch(() => Number.NaN));
    },
  });
}
