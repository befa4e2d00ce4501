import { Counter, type Registry } from 'prom-client';
import { REWRITE_OUTCOMES, type RewriteObserver } from '../gc/rewriter.js';
import { counter } from './metrics-process.js';

/** The metrics of what is written anew, by one node of the cluster at a time. @returns what is to be told of it. */
export function compactionMetrics(registry: Registry): RewriteObserver {
  let passed = 0;
  counter(
    registry,
    'weighhouse_compacted_bytes_total',
    'Bytes that compaction has read, hashed and written (also of blobs over which a gateway died).',
    () => passed,
  );
  const ended = new Counter({
    name: 'weighhouse_compactions_total',
    help: 'Blobs of which compaction was to make one object, by how that ended; "damaged": their bytes do not match their digest.',
    labelNames: ['outcome'],
    registers: [registry],
  });
  for (const outcome of REWRITE_OUTCOMES) ended.inc({ outcome }, 0);
  return {
    passed: (bytes) => {
      passed += bytes;
    },
    ended: (outcome) => ended.inc({ outcome }),
  };
}
