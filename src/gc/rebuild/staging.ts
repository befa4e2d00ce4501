import { createHash } from 'node:crypto';
import type { Insert } from '../../database/insert.js';
import type { Database } from '../../database/connect.js';
import type { RecordPlace } from '../../storage/record-store.js';
import { dueRecords } from '../records.js';
import { findRecordLog } from '../record-log.js';
import { needsOf, parseLine, readStored, type RecordLine, wordsOf } from './lines.js';
import type { RebuildOptions } from './options.js';

/** What a line means, as rows: keyed, so that of several about one thing the last counts. */
interface Staged {
  readonly things: Map<string, { order: number; row: unknown[] }>;
  readonly bodies: Map<string, { order: number; row: unknown[] }>;
  readonly needs: Map<string, unknown[]>;
}

/** Columns of `rebuilt_things` and `rebuilt_bodies` in the order of the rows. */
const THINGS = [
  ['thing', 'text'],
  ['repository', 'text'],
  ['name', 'text'],
  ['generation', 'integer'],
  ['id', 'bigint'],
  ['at', 'timestamptz'],
  ['digest', 'text'],
  ['media_type', 'text'],
  ['payload', 'bytea'],
] as const;
const BODIES = [
  ['digest', 'text'],
  ['fingerprint', 'text'],
  ['generation', 'integer'],
  ['id', 'bigint'],
  ['at', 'timestamptz'],
  ['size', 'bigint'],
  ['segments', 'jsonb'],
] as const;
const NEEDS = [
  ['repository', 'text'],
  ['manifest', 'text'],
  ['digest', 'text'],
  ['size', 'bigint'],
] as const;

/** Of two records about one thing the one of the later generation counts, and in a generation that of the higher id. */
const LATER = '(excluded.generation, excluded.id) >= (r.generation, r.id)';

/**
 * Reads all records into tables, in whatever order they come: of each link, manifest and tag the last counts, of a blob
 * every body is kept. What is still to be written down is read from the database itself if nothing is to be changed.
 */
export async function stageRecords(options: RebuildOptions): Promise<void> {
  const { database, records, report, dryRun, check } = options;
  await clearStaged(database);
  for await (const file of records.listRecords()) {
    await stageText(options, await records.readRecords(file), file, file.name);
    report.files += 1;
    report.progress(() => `records: ${report.files} files, ${report.lines} lines`);
    if (report.files % 100 === 0) await check();
  }
  if (!dryRun) return;
  const generation = (await findRecordLog(database))?.generation ?? 0;
  for await (const text of dueRecords(database)) await stageText(options, text, { generation, sequence: 0 }, 'due');
}

/** Empties what a rebuild works with, but for what it has read of objects. */
export async function clearStaged(database: Database): Promise<void> {
  await database.query('truncate rebuilt_things, rebuilt_bodies, rebuilt_needs');
}

async function stageText({ database, report }: RebuildOptions, text: string, place: RecordPlace, name: string) {
  const staged: Staged = { things: new Map(), bodies: new Map(), needs: new Map() };
  const lines = text.split('\n');
  for (const [index, line] of lines.entries()) {
    if (line === '') continue;
    report.lines += 1;
    try {
      stageLine(staged, parseLine(line), place.generation);
    } catch (error) {
      // A writer that died in the middle wrote the same lines again, in another file.
      if (index === lines.length - 1) report.notes.push(`${name} is torn in its last line, which is left out`);
      else report.fault(`line ${index + 1} of the records ${name} can't be read: ${wordsOf(error)}`);
    }
  }
  await insertStaged(database, staged);
}

function stageLine({ things, bodies, needs }: Staged, line: RecordLine, generation: number): void {
  const put = (thing: string, name: string, repository: string, digest: string | null, more: unknown[] = []) => {
    const [mediaType = null, payload = null] = more;
    const key = `${thing} ${repository} ${name}`;
    if ((things.get(key)?.order ?? 0) > line.id) return;
    const row = [thing, repository, name, generation, line.id, line.at, digest, mediaType, payload];
    things.set(key, { order: line.id, row });
  };
  switch (line.kind) {
    case 'blob': {
      const segments = line.segments && JSON.stringify(line.segments);
      const fingerprint = segments === null ? 'gone' : createHash('sha256').update(segments).digest('hex').slice(0, 32);
      const key = `${line.digest} ${fingerprint}`;
      if ((bodies.get(key)?.order ?? 0) > line.id) return;
      const row = [line.digest, fingerprint, generation, line.id, line.at, line.size, segments];
      bodies.set(key, { order: line.id, row });
      return;
    }
    case 'link':
    case 'unlink':
      put('link', line.digest, line.repository, line.kind === 'link' ? line.digest : null);
      return;
    case 'manifest-removed':
      put('manifest', line.digest, line.repository, null);
      return;
    case 'manifest': {
      const { payload, mediaType, digest, repository } = line;
      if (payload === null || mediaType === null) {
        put('manifest', digest, repository, null);
        return;
      }
      for (const need of needsOf(readStored(payload, mediaType)))
        needs.set(`${repository} ${digest} ${need.digest}`, [repository, digest, need.digest, need.size]);
      put('manifest', digest, repository, digest, [mediaType, payload]);
      return;
    }
    case 'tag':
      put('tag', line.tag, line.repository, line.digest);
      return;
    case 'tag-removed':
      put('tag', line.tag, line.repository, null);
  }
}

async function insertStaged(database: Database, { things, bodies, needs }: Staged): Promise<void> {
  const rowsOf = (staged: Map<string, { row: unknown[] }>) => [...staged.values()].map(({ row }) => row);
  await upsert(
    database,
    { into: 'rebuilt_things', columns: THINGS, rows: rowsOf(things) },
    `(thing, repository, name) do update set generation = excluded.generation, id = excluded.id, at = excluded.at,
       digest = excluded.digest, media_type = excluded.media_type, payload = excluded.payload where ${LATER}`,
  );
  // Of one record that was written twice, once before and once after the blob went, the one with the body counts: its objects are looked for.
  await upsert(
    database,
    { into: 'rebuilt_bodies', columns: BODIES, rows: rowsOf(bodies) },
    `(digest, fingerprint) do update set generation = excluded.generation, id = excluded.id, at = excluded.at where ${LATER}`,
  );
  await upsert(database, { into: 'rebuilt_needs', columns: NEEDS, rows: [...needs.values()] }, 'do nothing');
}

async function upsert(database: Database, insert: Insert, conflict: string): Promise<void> {
  if (insert.rows.length === 0) return;
  const columns = insert.columns.map(([name]) => name).join(', ');
  const values = insert.columns.map(([,], column) => insert.rows.map((row) => row[column] ?? null));
  const arrays = insert.columns.map(([, type], index) => `$${index + 1}::${type}[]`).join(', ');
  await database.query(
    `insert into ${insert.into} as r (${columns}) select * from unnest(${arrays}) on conflict ${conflict}`,
    values,
  );
}
