import { Counter, Gauge, type Registry } from 'prom-client';
import type { Queries } from '../database/connect.js';
import { lastPassAt } from '../gc/scrub-passes.js';
import type { HealingSource } from '../registry/changes.js';
import { countQuarantined } from '../registry/quarantine.js';
import { counter } from './metrics-process.js';
import type { ScrubbingObserver } from './scrubbing.js';
import { shared, within } from './shared-answer.js';

/** How long a scrape waits for PostgreSQL, in milliseconds. */
const PATIENCE_MS = 2_000;
const KINDS = ['missing', 'short', 'rows', 'digest', 'quarantined'] as const;
const SOURCES: readonly HealingSource[] = ['second-store', 'restored'];

/** The metrics of the scrub, by one node of the cluster at a time, and of what is quarantined. @returns what is to be told of it. */
export function scrubMetrics(registry: Registry, queries: () => Queries | undefined): ScrubbingObserver {
  const registers = [registry];
  let blobs = 0;
  let read = 0;
  let unread = 0;
  counter(registry, 'weighhouse_scrubbed_blobs_total', 'Blobs that the scrub has looked at.', () => blobs);
  counter(registry, 'weighhouse_scrubbed_bytes_total', 'Bytes that the scrub has read and hashed.', () => read);
  counter(
    registry,
    'weighhouse_scrub_unread_blobs_total',
    'Blobs that the scrub passed over since they could not be read, though the storage was there.',
    () => unread,
  );
  const faults = new Counter({
    name: 'weighhouse_scrub_faults_total',
    help: 'Blobs that the scrub found damaged, by what was wrong; "quarantined": they were quarantined before.',
    labelNames: ['kind'],
    registers,
  });
  for (const kind of KINDS) faults.inc({ kind }, 0);
  const healed = new Counter({
    name: 'weighhouse_scrub_healed_total',
    help: 'Quarantined blobs that the scrub put to use again, by where the right bytes came from; "restored": their own were right again.',
    labelNames: ['source'],
    registers,
  });
  for (const source of SOURCES) healed.inc({ source }, 0);
  const asked = (name: string, help: string, ask: (queries: Queries) => Promise<number>) => {
    const answer = shared(0, async () => {
      const there = queries();
      return there ? await ask(there) : Number.NaN;
    });
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        this.set(await within(PATIENCE_MS, answer()).catch(() => Number.NaN));
      },
    });
  };
  asked(
    'weighhouse_quarantined_blobs',
    'Blobs of the whole registry that are quarantined since their bytes are damaged; the same on every node.',
    countQuarantined,
  );
  asked(
    'weighhouse_scrub_last_pass_time_seconds',
    'When all blobs had last been read and hashed, since 1970; no number before the first time. The same on every node.',
    async (there) => (await lastPassAt(there)) ?? Number.NaN,
  );
  return {
    read: (bytes) => {
      read += bytes;
    },
    looked: () => {
      blobs += 1;
    },
    unread: () => {
      unread += 1;
    },
    fault: ({ isNew, damage }) => faults.inc({ kind: isNew ? (damage?.kind ?? 'quarantined') : 'quarantined' }),
    healed: (source) => healed.inc({ source }),
  };
}
