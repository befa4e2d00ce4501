import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { KeyStatistics } from '../auth/key-check.js';
import type { PoolUse } from '../database/connect.js';
import type { PullStatistics } from '../registry/pulls.js';
import type { EndedRequest, RequestObserver } from '../http/request-log.js';
import { counter, gauge, processMetrics } from './metrics-process.js';

/** What a worker's metrics are read from, when they are asked for. */
export interface WorkerSources {
  pool(): PoolUse;
  keys(): KeyStatistics;
  /** Bytes that uploads may hold and hold, and uploads that wait for some. */
  uploads(): { readonly total: number; readonly used: number; readonly waiting: number };
  /** Bytes that downloads may read ahead, and do. */
  downloads(): { readonly total: number; readonly used: number };
  pulls(): PullStatistics;
}

export interface WorkerMetrics {
  readonly registry: Registry;
  readonly requests: RequestObserver;
}

/** From a manifest out of the cache to a blob of a terabyte over a slow line. */
const SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600, 10_800, 36_000, 86_400];
/** A client may send any word as a method. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/** The metrics of one worker. Labels come from closed lists: routes, methods, statuses. */
export function workerMetrics(sources: WorkerSources): WorkerMetrics {
  const registry = new Registry();
  const requests = requestMetrics(registry);
  poolMetrics(registry, sources.pool);
  keyMetrics(registry, sources.keys);
  memoryMetrics(registry, sources);
  pullMetrics(registry, sources.pulls);
  processMetrics(registry, 'worker');
  return { registry, requests };
}

function requestMetrics(registry: Registry): RequestObserver {
  const registers = [registry];
  const total = new Counter({
    name: 'weighhouse_requests_total',
    help: 'Requests that are over; status "broken": the connection ended before the response; route "none": refused before or without one.',
    labelNames: ['method', 'route', 'status'],
    registers,
  });
  const duration = new Histogram({
    name: 'weighhouse_request_duration_seconds',
    help: 'From the head of a request to the end of its response.',
    labelNames: ['method', 'route'],
    buckets: SECONDS,
    registers,
  });
  let inFlight = 0;
  let received = 0;
  let sent = 0;
  gauge(registry, 'weighhouse_requests_in_flight', 'Requests under way.', () => inFlight);
  counter(registry, 'weighhouse_received_bytes_total', 'Content of requests, while it arrives.', () => received);
  counter(registry, 'weighhouse_sent_bytes_total', 'Content of responses, while it is sent.', () => sent);
  return {
    begun: () => {
      inFlight += 1;
    },
    received: (bytes) => {
      received += bytes;
    },
    sent: (bytes) => {
      sent += bytes;
    },
    ended: ({ method: word, route = 'none', status, seconds }: EndedRequest) => {
      const method = METHODS.has(word) ? word : 'other';
      inFlight -= 1;
      total.inc({ method, route, status: status ?? 'broken' });
      duration.observe({ method, route }, seconds);
    },
  };
}

function poolMetrics(registry: Registry, pool: () => PoolUse): void {
  const name = 'weighhouse_database_pool';
  gauge(registry, `${name}_max_connections`, 'Connections to PostgreSQL that the workers may open.', () => pool().max);
  gauge(registry, `${name}_connections`, 'Connections to PostgreSQL that are open.', () => pool().size);
  gauge(registry, `${name}_used_connections`, 'Connections to PostgreSQL that run a statement.', () => pool().used);
  gauge(registry, `${name}_waiting`, 'Statements that wait for a connection.', () => pool().waiting);
}

function keyMetrics(registry: Registry, keys: () => KeyStatistics): void {
  const registers = [registry];
  counter(registry, 'weighhouse_bcrypt_checks_total', 'Secrets of keys that went through bcrypt.', () => keys().checks);
  gauge(registry, 'weighhouse_bcrypt_waiting', 'Secrets of keys that wait for bcrypt.', () => keys().waiting);
  new Counter({
    name: 'weighhouse_key_cache_lookups_total',
    help: 'Keys that were looked for among those whose check is remembered, and whether they were found ("hit") or not ("miss").',
    labelNames: ['outcome'],
    registers,
    collect() {
      const { hits, misses } = keys();
      this.reset();
      this.inc({ outcome: 'hit' }, hits);
      this.inc({ outcome: 'miss' }, misses);
    },
  });
  new Counter({
    name: 'weighhouse_refused_logins_total',
    help: 'Keys and forged tokens that were refused: because they are none ("unknown"), or unseen, after too many failures ("throttled").',
    labelNames: ['reason'],
    registers,
    collect() {
      const { failures, refused } = keys();
      this.reset();
      this.inc({ reason: 'unknown' }, failures);
      this.inc({ reason: 'throttled' }, refused);
    },
  });
}

function memoryMetrics(registry: Registry, { uploads, downloads }: WorkerSources): void {
  const labelNames = ['direction'];
  const registers = [registry];
  new Gauge({
    name: 'weighhouse_memory_budget_bytes',
    help: 'Bytes that uploads may hold until they are written, and downloads may read ahead.',
    labelNames,
    registers,
    collect() {
      this.set({ direction: 'upload' }, uploads().total);
      this.set({ direction: 'download' }, downloads().total);
    },
  });
  new Gauge({
    name: 'weighhouse_memory_used_bytes',
    help: 'Bytes of that budget in use.',
    labelNames,
    registers,
    collect() {
      this.set({ direction: 'upload' }, uploads().used);
      this.set({ direction: 'download' }, downloads().used);
    },
  });
  const waiting = 'Uploads that wait for memory: the disk is slower than they are.';
  gauge(registry, 'weighhouse_memory_waiting_uploads', waiting, () => uploads().waiting);
}

function pullMetrics(registry: Registry, pulls: () => PullStatistics): void {
  for (const [name, help, of] of [
    ['weighhouse_pulls_total', 'Manifests that were sent to clients.', 'pulls'],
    [
      'weighhouse_pulls_dropped_total',
      'Pulls and signs of use that are not counted: too many manifests at once.',
      'dropped',
    ],
    ['weighhouse_pulls_write_failures_total', 'Writings of pulls that failed; they are tried again.', 'failures'],
  ] as const)
    counter(registry, name, help, () => pulls()[of]);
}
