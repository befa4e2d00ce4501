import type { Database, Queries } from '../database/connect.js';
import type { Log } from '../log.js';
import type { SegmentKey, SegmentStore } from '../storage/segment-store.js';
import type { Job } from './jobs.js';

const BATCH = 1_000;

export interface OrphansOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
  readonly everyMs: number;
  /** How long an object stays unnamed after it was first seen so, in seconds. */
  readonly ageSeconds: number;
}

/**
 * The safety net under the removals: objects that no row names. Each is written down when it is first seen, and only if
 * it is still unnamed a week later it goes the way of all removals. How old the store says it is proves nothing. The
 * wait begins anew in a restored database, which may not know of rows that were committed after its backup.
 */
export function orphansJob(options: OrphansOptions): Job {
  return { name: 'orphans', everyMs: options.everyMs, run: () => sweep(options) };
}

async function sweep({ database, store, log, ageSeconds }: OrphansOptions): Promise<boolean> {
  const cluster = await clusterOf(database);
  let batch: SegmentKey[] = [];
  for await (const key of store.list()) {
    batch.push(key);
    if (batch.length < BATCH) continue;
    await note(database, batch, cluster);
    batch = [];
  }
  await note(database, batch, cluster);
  const removed = await database.query<{ key: string }>(
    `with due as (
       delete from orphans o where o.cluster = $1 and o.first_seen <= now() - make_interval(secs => $2)
         and not exists (select from segments s where s.key = o.key) returning key)
     insert into removals (key, not_before) select key, now() from due on conflict do nothing returning key`,
    [cluster, ageSeconds],
  );
  if (removed.length > 0)
    log.warn({ count: removed.length, first: removed[0]?.key }, 'objects that nothing names are being removed');
  return false;
}

/** How many objects of the store no row names now, those of uploads that end meanwhile among them. */
export async function countUnnamed(queries: Queries, store: SegmentStore): Promise<number> {
  let count = 0;
  let batch = new Set<SegmentKey>();
  const ask = async () => {
    const [row] = await queries.query<{ count: number }>(
      `select count(*) as count from unnest($1::text[]) as k (key)
        where not exists (select from segments s where s.key = k.key) and not exists (select from removals r where r.key = k.key)`,
      [[...batch]],
    );
    count += row?.count ?? 0;
    batch = new Set();
  };
  for await (const key of store.list()) if (batch.add(key).size >= BATCH) await ask();
  if (batch.size > 0) await ask();
  return count;
}

/** Writes down which of the keys nothing names, and forgets those that something does. */
async function note(database: Database, keys: readonly SegmentKey[], cluster: string): Promise<void> {
  if (keys.length === 0) return;
  // In one order, so that two who believe that the job is theirs don't wait for each other; else one tries again.
  await database.transaction((transaction) =>
    transaction.query(
      `with seen as (select distinct key from unnest($1::text[]) as k (key)),
          named as (select key from seen where exists (select from segments s where s.key = seen.key)
                    or exists (select from removals r where r.key = seen.key)),
          forgotten as (delete from orphans where key in (select key from named))
     insert into orphans (key, cluster) select key, $2 from seen where key not in (select key from named) order by key
     on conflict (key) do update set first_seen = now(), cluster = excluded.cluster where orphans.cluster <> excluded.cluster`,
      [keys, cluster],
    ),
  );
}

/** What tells this database from the one that it was restored from: a dump has another system, a recovery another timeline. */
async function clusterOf(database: Database): Promise<string> {
  const [row] = await database.query<{ cluster: string }>(
    `select s.system_identifier || '/' || c.timeline_id || '/' || d.oid as cluster
       from pg_control_system() s, pg_control_checkpoint() c, pg_database d where d.datname = current_database()`,
  );
  if (!row) throw new Error('PostgreSQL does not tell its system identifier');
  return row.cluster;
}
