import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Queries } from '../database/connect.js';
import { MICROSECONDS, SealHash, sealedTexts } from './seal-text.js';

/** Rows that one seal covers at most. */
const BATCH = 10_000;
/** How long one run waits for transactions that may still add rows; the next one tries again. */
const WAIT_MS = 5_000;
const LOOK_MS = 20;

export interface SealOptions {
  readonly batch?: number;
  readonly waitMs?: number;
}

/** The job that seals the record. Nobody waits for it: it takes no lock that a writer of rows wants. */
export function sealJob(database: Database, everyMs: number) {
  return { name: 'audit-seal', everyMs, run: () => sealAudit(database) };
}

/**
 * Seals the rows whose numbers are decided: those up to one that the sequence had given before every transaction that then
 * wrote to the record ended. Such a one holds its lock on the table (ROW EXCLUSIVE) from before it takes a number until
 * its rows are visible or never will be, so PostgreSQL's list of locks tells who is still to be waited for. All of it is
 * one transaction, on one connection: what was seen is not believed after a crash or a restore of the database.
 * @returns whether there is more to seal at once.
 */
export async function sealAudit(
  database: Database,
  { batch = BATCH, waitMs = WAIT_MS }: SealOptions = {},
): Promise<boolean> {
  return await database.transaction(async (transaction) => {
    // Each statement has to see what was committed before it, whatever the database's default is.
    await transaction.query('set transaction isolation level read committed');
    if (!(await lockSealing(transaction))) return false;
    const former = await lastSeal(transaction);
    const lastNumber = await lastGiven(transaction);
    if (lastNumber <= former.lastId || !(await writersEnded(transaction, waitMs))) return false;

    const hash = new SealHash(former.hash);
    const firstId = former.lastId + 1;
    let rows = 0;
    let lastId = lastNumber;
    for await (const row of sealedTexts(transaction, firstId, lastNumber)) {
      hash.add(row);
      rows++;
      if (rows < batch) continue;
      lastId = row.id;
      break;
    }
    // Only numbers that were given back: the next row brings them under its seal.
    if (rows === 0) return false;
    const sealedAt = await now(transaction);
    const digest = hash.end({ firstId, lastId, rows, sealedAt });
    await transaction.query(
      `insert into audit_seals (first_id, last_id, rows, hash, sealed_at)
       values ($1, $2, $3, $4, now())`,
      [firstId, lastId, rows, digest],
    );
    return lastId < lastNumber;
  });
}

/** One sealer at a time; until its transaction ends. */
async function lockSealing(transaction: Queries): Promise<boolean> {
  const [row] = await transaction.query<{ held: boolean }>(
    `select pg_try_advisory_xact_lock(hashtextextended('weighhouse audit seals', 0)) as held`,
  );
  return row?.held ?? false;
}

async function lastSeal(transaction: Queries): Promise<{ lastId: number; hash: Buffer }> {
  const [row] = await transaction.query<{ lastId: number; hash: Buffer }>(
    'select last_id as "lastId", hash from audit_seals order by first_id desc limit 1',
  );
  return row ?? { lastId: 0, hash: Buffer.alloc(0) };
}

/** The last number that the sequence has given, to whomever. */
async function lastGiven(transaction: Queries): Promise<number> {
  const [row] = await transaction.query<{ value: number }>(
    'select case when is_called then last_value else 0 end as value from audit_logs_id_seq',
  );
  return row?.value ?? 0;
}

/** Waits until those who write to the record now have ended. @returns false if they take longer than `waitMs`. */
async function writersEnded(transaction: Queries, waitMs: number): Promise<boolean> {
  const deadline = performance.now() + waitMs;
  const writers = await writersNow(transaction);
  for (;;) {
    if (writers.size === 0) return true;
    if (performance.now() >= deadline) return false;
    await sleep(LOOK_MS);
    const still = await writersNow(transaction);
    for (const writer of writers) if (!still.has(writer)) writers.delete(writer);
  }
}

async function writersNow(transaction: Queries): Promise<Set<string>> {
  const rows = await transaction.query<{ writer: string }>(
    `select virtualtransaction as writer from pg_locks
      where locktype = 'relation' and relation = 'audit_logs'::regclass and mode = 'RowExclusiveLock' and granted
        and database = (select oid from pg_database where datname = current_database())`,
  );
  return new Set(rows.map((row) => row.writer));
}

/** The transaction's own time, which `now()` in its statements is. */
async function now(transaction: Queries): Promise<number> {
  const [row] = await transaction.query<{ now: number }>(`select ${MICROSECONDS('now()')} as now`);
  return row?.now ?? 0;
}
