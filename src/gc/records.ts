import type { Database } from '../database/connect.js';
import type { Change, ChangeRecorder } from '../registry/changes.js';
import type { RecordPlace, RecordStore } from '../storage/record-store.js';
import type { Job } from './jobs.js';
import { catchUp, nextRecordPlace, type RecordLog } from './record-log.js';

/**
 * What is written down beside the bytes, seconds behind, so that a lost database can be rebuilt from its store: a line of
 * JSON for each change, in the order of `id`. Blobs with the keys and lengths of their segments, links, manifests with
 * their bytes, tags.
 */
const BATCH = 500;
/** A batch ends early at about this many characters, which its first row alone may pass: manifests may be large. */
const BATCH_CHARACTERS = 16 * 1024 * 1024;

/** A row of `records` with what a rebuild needs beyond it. */
interface Due {
  readonly id: number;
  readonly kind: string;
  readonly repository: string | null;
  readonly digest: string | null;
  readonly tag: string | null;
  readonly at: string;
  /** Of a blob that is there. */
  readonly size: number | null;
  readonly segments: readonly object[] | null;
  /** Of a manifest that is there. */
  readonly mediaType: string | null;
  /** In base64. */
  readonly payload: string | null;
  /** How many rows are due, as far as a batch reaches. */
  readonly due: number;
}

/**
 * Blobs and manifests never change, so they are read late; one that is gone has its removal behind it. Measured first, so
 * that no more is read than is written: bytes in a row, a manifest, and of other blobs a line for each few MiB.
 */
const DUE = `
  with due as materialized (
    select id, kind, repository, digest, tag, at from records order by id limit $1),
  found as (
    select due.*, b.size, b.body, m.repository as holder, m.media_type,
           4 * coalesce(m.size, b.size / 16384 + coalesce((
             select octet_length(s.bytes) from segments s where s.body = b.body and s.position = 1), 0), 0) / 3 as characters
      from due
      left join lateral (select size, body from blobs where due.kind = 'blob' and digest = due.digest limit 1) b on true
      left join lateral (
        select repository, media_type, size from manifests
         where due.kind = 'manifest' and repository = (select id from repositories where name = due.repository)
           and digest = due.digest limit 1) m on true),
  placed as (
    select *, sum(characters) over (order by id rows between unbounded preceding and 1 preceding) as before from found)
  select id, kind, repository, digest, tag, at, size, media_type as "mediaType",
         (select json_agg(json_build_object('key', s.key, 'length', s.length, 'objectSize', s.object_size,
                                            'bytes', translate(encode(s.bytes, 'base64'), E'\\n', '')) order by s.position)
            from segments s where s.body = placed.body and s.position is not null) as segments,
         (select translate(encode(m.payload, 'base64'), E'\\n', '') from manifests m
           where m.repository = holder and m.digest = placed.digest) as payload,
         (select count(*)::int from due) as due
    from placed where coalesce(before, 0) < $2 order by id`;

/** Notes each change, for the job. */
export const recordChanges: ChangeRecorder = (change) => ({
  into: 'records',
  columns: [
    ['kind', 'text'],
    ['repository', 'text'],
    ['digest', 'text'],
    ['tag', 'text'],
  ],
  rows: rowsOf(change).map((row) => [row.kind, row.repository, row.digest, row.tag]),
});

function rowsOf(change: Change): { kind: string; repository: string; digest: string | null; tag: string | null }[] {
  // Of these the job that swaps a body, and the push, write down what is to be known.
  if (change.kind === 'blob-quarantined' || change.kind === 'blob-healed') return [];
  const { repository } = change;
  switch (change.kind) {
    case 'blob-pushed':
      return [
        { kind: 'blob', repository, digest: change.digest, tag: null },
        { kind: 'link', repository, digest: change.digest, tag: null },
      ];
    case 'blob-mounted':
      return [{ kind: 'link', repository, digest: change.digest, tag: null }];
    case 'blob-removed':
      return [{ kind: 'unlink', repository, digest: change.digest, tag: null }];
    case 'manifest-pushed':
      return [
        { kind: 'manifest', repository, digest: change.digest, tag: null },
        ...change.tags.map((tag) => ({ kind: 'tag', repository, digest: change.digest, tag })),
      ];
    case 'manifest-removed':
      return [
        ...change.tags.map((tag) => ({ kind: 'tag-removed', repository, digest: null, tag })),
        { kind: 'manifest-removed', repository, digest: change.digest, tag: null },
      ];
    case 'tag-set':
      return [{ kind: 'tag', repository, digest: change.digest, tag: change.tag }];
    case 'tag-removed':
      return [{ kind: 'tag-removed', repository, digest: null, tag: change.tag }];
  }
}

/** Writes down what is due. A crash between writing and deleting writes the same lines, with the same ids, once more. */
export function recordsJob(database: Database, store: RecordStore, everyMs: number): Job {
  return { name: 'records', everyMs, run: () => writeBatch(database, store) };
}

async function writeBatch(database: Database, store: RecordStore, place?: RecordPlace): Promise<boolean> {
  const due = await database.query<Due>(DUE, [BATCH, BATCH_CHARACTERS]);
  const [first] = due;
  if (!first) return false;
  await store.putRecords(place ?? (await nextRecordPlace(database)), due.map(textOf).join(''));
  await database.query('delete from records where id = any($1::bigint[])', [due.map((row) => row.id)]);
  return due.length < first.due || due.length === BATCH;
}

/** Writes down all that is due. @param place where, if not at the next one of this database */
export async function writeRecords(database: Database, store: RecordStore, place?: RecordPlace): Promise<void> {
  while (await writeBatch(database, store, place));
}

/** Before anybody serves: see `catchUp`. */
export async function catchUpRecords(database: Database, store: RecordStore): Promise<RecordLog> {
  return await catchUp(database, store, (place) => writeRecords(database, store, place));
}

/** The lines that are due, a batch at a time, without writing them. */
export async function* dueRecords(database: Database): AsyncGenerator<string> {
  const text = DUE.replace('from records order', 'from records where id > $3 order');
  for (let after = 0; ; ) {
    const due = await database.query<Due>(text, [BATCH, BATCH_CHARACTERS, after]);
    const last = due.at(-1);
    if (!last) return;
    yield due.map(textOf).join('');
    after = last.id;
  }
}

function textOf(row: Due): string {
  return `${JSON.stringify(lineOf(row))}\n`;
}

function lineOf({ size, segments, mediaType, payload, due: _due, ...row }: Due): object {
  if (row.kind === 'blob') return { ...row, ...(size === null ? { gone: true } : { size, segments }) };
  if (row.kind === 'manifest') return { ...row, ...(mediaType === null ? { gone: true } : { mediaType, payload }) };
  return row;
}
