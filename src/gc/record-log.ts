import type { Database, Queries } from '../database/connect.js';
import type { Log } from '../log.js';
import type { RecordFile, RecordPlace, RecordStore } from '../storage/record-store.js';
import type { Job } from './jobs.js';

/** What a database says of the records that it wrote beside the bytes (decision 0029). */
export interface RecordLog extends RecordPlace {
  /** The store knows what this database doesn't: it was restored from a backup, or is a new one. */
  readonly behind: boolean;
}

/** Undefined: it never wrote any. */
export async function findRecordLog(queries: Queries): Promise<RecordLog | undefined> {
  const [row] = await queries.query<RecordLog>('select generation, sequence, behind from record_log');
  return row;
}

/**
 * A place for the next file, which no other file of this database has. What the file is to hold is read before: so a backup
 * that has the place has the rows, too, and a store with a file beyond the last place knows what the database does not.
 */
export async function nextRecordPlace(queries: Queries): Promise<RecordPlace> {
  const [row] = await queries.query<RecordPlace>(
    `insert into record_log (generation, sequence) values (0, 1)
     on conflict (only_one) do update set sequence = record_log.sequence + 1 returning generation, sequence`,
  );
  if (!row) throw new Error('no row was inserted');
  return row;
}

/** Whether the store holds records that this database never wrote, in its own past or by another's hand. */
export async function isAhead(queries: Queries, records: RecordStore): Promise<boolean> {
  const known = await findRecordLog(queries);
  if (known?.behind) return true;
  for await (const file of records.listRecords(known)) {
    if (file.legacy) continue;
    // Another process may have written it since: then its place was taken before it was there.
    const now = await findRecordLog(queries);
    if (now === undefined || isBeyond(file, now)) return true;
  }
  return known === undefined && (await isLegacyAhead(queries, records));
}

function isBeyond(file: RecordPlace, place: RecordPlace): boolean {
  return file.generation > place.generation || (file.generation === place.generation && file.sequence > place.sequence);
}

/** Files of older versions are numbered by the ids of their records, which a database gives in order. */
async function isLegacyAhead(queries: Queries, records: RecordStore): Promise<boolean> {
  let last: RecordFile | undefined;
  for await (const file of records.listRecords()) if (file.legacy) last = file;
  if (!last) return false;
  const ids = [...(await records.readRecords(last)).matchAll(/^\{"id":([0-9]+)/gm)].map(([, id]) => Number(id));
  const [given] = await queries.query<{ last: number }>(
    `select coalesce(pg_sequence_last_value(pg_get_serial_sequence('records', 'id')::regclass), 0) as last`,
  );
  return Math.max(last.sequence, ...ids) > (given?.last ?? 0);
}

/**
 * Looks, before anybody serves, whether the store knows more than the database. If so it begins a generation, whose records
 * come after all that are there, and nothing is removed from the store until a rebuild has brought back the rest. What the
 * database still had to write down when it was backed up belongs to its former generation: `flush` writes it there.
 * Several processes may do so at once: one of them begins, the others find it begun. Where others serve and write meanwhile,
 * the place has moved on by then, and it is looked again.
 * @param flush writes all rows of `records` at this place
 */
export async function catchUp(
  database: Database,
  records: RecordStore,
  flush: (place: RecordPlace) => Promise<void>,
): Promise<RecordLog> {
  for (;;) {
    const known = await findRecordLog(database);
    // A generation that has begun, and that no other has overtaken.
    let ahead = false;
    let newest = known?.generation ?? 0;
    for await (const file of records.listRecords(known)) {
      if (file.legacy) continue;
      ahead = true;
      newest = Math.max(newest, file.generation);
    }
    if (known && !ahead) return known;
    if (!ahead && !(await isLegacyAhead(database, records))) {
      await database.query('insert into record_log (generation, sequence) values (0, 0) on conflict do nothing');
      continue;
    }
    await flush({ generation: known?.generation ?? 0, sequence: 0 });
    if (known)
      await database.query(
        'update record_log set generation = $3, sequence = 0, behind = true where generation = $1 and sequence = $2',
        [known.generation, known.sequence, newest + 1],
      );
    else
      await database.query(
        'insert into record_log (generation, sequence, behind) values ($1, 0, true) on conflict do nothing',
        [newest + 1],
      );
  }
}

/** All that the store knows is in the database, or was given up. */
export async function setComplete(queries: Queries): Promise<void> {
  await queries.query('update record_log set behind = false');
}

/**
 * A job that takes names or bytes away: it stands still while the store knows more than the database, which may take for
 * abandoned what was committed after its backup.
 * @param look whether to look into the store each time, too, and not only into what the start has found
 */
export function unlessBehind(job: Job, database: Database, records: RecordStore, log: Log, look = false): Job {
  let told = false;
  return {
    ...job,
    run: async (stopping) => {
      const behind = look ? await isAhead(database, records) : (await findRecordLog(database))?.behind;
      if (!behind) return await job.run(stopping);
      if (!told || look)
        log.warn({ job: job.name }, 'the store knows more than the database: nothing is removed before a rebuild');
      told = true;
      return false;
    },
  };
}
