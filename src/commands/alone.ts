import type { Database, Queries } from '../database/connect.js';
import { LISTENER, listen, type Listener } from '../database/notify.js';
import type { Log } from '../log.js';

/** The lock of a rebuild; jobs of the same database are held by theirs. */
const REBUILD = 'rebuild';
/** What may take bytes away, or write of what it finds half done. */
const JOBS = [
  'records',
  'removals',
  'orphans',
  'expiry',
  'revoked',
  'abandoned replacements',
  'compaction',
  'strays',
  'collector',
  'collector walk',
  'scrub',
  'usage',
];
const PATIENCE_MS = 5_000;
const LOOK_MS = 100;

/** A database that nobody serves from. */
export interface Alone {
  /** @throws Error if a registry has started since, or the locks are lost. */
  check(): Promise<void>;
  release(): Promise<void>;
}

/**
 * Makes sure that no registry serves from this database, and that none begins: every process of one listens, which
 * PostgreSQL lists; a start asks for the lock that is held here; and the jobs, which alone take bytes away, can't have
 * their locks meanwhile.
 * @throws Error that says who serves
 */
export async function beAlone(database: Database, url: string, log: Log): Promise<Alone> {
  await refuseServing(database);
  const listener = listen(url, log);
  try {
    for (const name of [REBUILD, ...JOBS.map((job) => `job ${job}`)])
      if (!(await lock(listener, name)))
        throw new Error(
          name === REBUILD ? 'another rebuild of this database runs' : 'a registry serves from this database',
        );
    const alone: Alone = {
      check: async () => {
        await refuseServing(database);
        if (!(await lock(listener, REBUILD))) throw new Error('the lock of the rebuild is lost: run it again');
      },
      release: () => listener.close(),
    };
    await alone.check();
    return alone;
  } catch (error) {
    await listener.close();
    throw error;
  }
}

/** The connection is made in the background. */
async function lock(listener: Listener, name: string): Promise<boolean> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end; ) {
    if (await listener.tryLock(name)) return true;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return false;
}

async function refuseServing(queries: Queries): Promise<void> {
  const rows = await queries.query<{ address: string }>(
    `select distinct coalesce(host(client_addr), 'this machine') as address from pg_stat_activity a
      where datname = current_database() and application_name like $1 and not exists (
        select from pg_locks l where l.pid = a.pid and l.locktype = 'advisory' and l.granted
           and (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended($2, 0))`,
    [`${LISTENER}%`, REBUILD],
  );
  if (rows.length === 0) return;
  const places = rows.map(({ address }) => address).join(', ');
  throw new Error(`a registry serves from this database (${places}): stop all nodes first`);
}

/** @throws Error while a rebuild of this database is under way */
export async function refuseDuringRebuild(queries: Queries): Promise<void> {
  const rows = await queries.query(
    `select from pg_locks where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())
        and (classid::bigint << 32 | objid::bigint) = hashtextextended($1, 0)`,
    [REBUILD],
  );
  if (rows.length > 0) throw new Error('a rebuild of this database is under way: start the registry when it is done');
}
