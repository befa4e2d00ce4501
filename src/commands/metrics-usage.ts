import { Gauge, type Registry } from 'prom-client';
import type { Queries } from '../database/connect.js';
import { readUsage, type Usage } from '../policies/usage.js';
import { shared, within } from './shared-answer.js';

/** How long a scrape waits for PostgreSQL, in milliseconds. */
const PATIENCE_MS = 2_000;
/** Scrapes and gauges within this many milliseconds share an answer. */
const KEEP_MS = 1_000;
/** Quotas beyond these are no metrics, the fullest come first: labels have to end somewhere. */
const MAX_QUOTAS = 100;

const EVERYTHING = { seesAll: true, maySee: () => true };

/** The metrics of what the whole registry holds, the same on every node. What is not known is NaN or left out. */
export function usageMetrics(registry: Registry, queries: () => Queries | undefined): void {
  const registers = [registry];
  const read = shared(KEEP_MS, async () => {
    const from = queries();
    return from && (await readUsage(from, EVERYTHING));
  });
  const usage = async (): Promise<Usage | undefined> => await within(PATIENCE_MS, read()).catch(() => undefined);

  for (const [name, help, of] of [
    [
      'weighhouse_named_bytes',
      'What clients would pull that took every manifest by itself.',
      ({ total }: Usage) => total.named_bytes,
    ],
    ['weighhouse_stored_bytes', 'Blobs that repositories hold, each once.', ({ total }: Usage) => total.stored_bytes],
    ['weighhouse_repositories', 'Repositories that hold anything.', ({ total }: Usage) => total.repositories],
    ['weighhouse_manifests', 'Manifests in all repositories.', ({ total }: Usage) => total.manifests],
    ['weighhouse_tags', 'Tags in all repositories.', ({ total }: Usage) => total.tags],
    ['weighhouse_blobs', 'Blobs that repositories hold, each once.', ({ total }: Usage) => total.blobs],
    [
      'weighhouse_usage_as_of_seconds',
      'What had changed by then, since 1970, is counted.',
      (now: Usage) => now.as_of.getTime() / 1000,
    ],
  ] as const)
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        const now = await usage();
        this.set((now && of(now)) ?? Number.NaN);
      },
    });

  for (const [name, help, of] of [
    ['weighhouse_quota_limit_bytes', 'What the repositories of a pattern may hold together.', 'limit_bytes'],
    ['weighhouse_quota_used_bytes', 'What they are charged.', 'used_bytes'],
  ] as const)
    new Gauge({
      name,
      help: `${help} At most ${MAX_QUOTAS}, the fullest.`,
      labelNames: ['pattern'],
      registers,
      async collect() {
        const now = await usage();
        this.reset();
        for (const quota of fullest(now?.quotas ?? [])) this.set({ pattern: quota.pattern }, quota[of]);
      },
    });
}

function fullest(quotas: Usage['quotas']): Usage['quotas'] {
  const part = ({ limit_bytes: limit, used_bytes: used }: Usage['quotas'][number]) =>
    limit === 0 ? Number.MAX_VALUE : used / limit;
  return [...quotas]
    .sort((one, other) => part(other) - part(one) || (one.pattern < other.pattern ? -1 : 1))
    .slice(0, MAX_QUOTAS);
}
