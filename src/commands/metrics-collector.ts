import { Counter, type Registry } from 'prom-client';
import type { CollectorObserver } from '../gc/collector.js';
import type { RetentionObserver } from '../gc/retention.js';
import { counter } from './metrics-process.js';

/** The metrics of the collector, which one node of the cluster runs at a time. @returns what is to be told of it. */
export function collectorMetrics(registry: Registry): CollectorObserver {
  let reviews = 0;
  let bytes = 0;
  counter(
    registry,
    'weighhouse_collector_reviews_total',
    'Blobs and manifests that were decided about.',
    () => reviews,
  );
  counter(
    registry,
    'weighhouse_collector_freed_bytes_total',
    'Bytes of blobs that went; their objects follow when no reader needs them.',
    () => bytes,
  );
  const condemned = new Counter({
    name: 'weighhouse_collector_condemned_total',
    help: 'What nothing named, and is unseen from then on.',
    labelNames: ['kind'],
    registers: [registry],
  });
  for (const kind of ['blob', 'manifest']) condemned.inc({ kind }, 0);
  const removed = new Counter({
    name: 'weighhouse_collector_removed_total',
    help: 'What was removed: manifests, links of blobs to repositories, and blobs that no repository has any more.',
    labelNames: ['kind'],
    registers: [registry],
  });
  for (const kind of ['link', 'blob', 'manifest']) removed.inc({ kind }, 0);
  return {
    reviewed: (count) => {
      reviews += count;
    },
    condemned: (kind, count) => condemned.inc({ kind }, count),
    removed: (kind, count) => removed.inc({ kind }, count),
    freed: (count) => {
      bytes += count;
    },
  };
}

/** The metrics of retention, which one node of the cluster runs at a time. @returns what is to be told of it. */
export function retentionMetrics(registry: Registry): RetentionObserver {
  let removed = 0;
  counter(registry, 'weighhouse_retention_removed_total', 'Releases that no rule kept.', () => removed);
  return {
    removed: (releases) => {
      removed += releases;
    },
  };
}
