import type { Database, Queries } from '../database/connect.js';
import type { Change, ChangeRecorder } from '../registry/changes.js';
import type { RecordStore } from '../storage/record-store.js';
import type { Job } from './jobs.js';

/**
 * What is written down beside the bytes, seconds behind, so that a lost database can be rebuilt from its store: a line of
 * JSON for each change, in the order of `id`. Blobs with the keys and lengths of their segments, links, manifests with
 * their bytes, tags.
 */
const BATCH = 500;
/** A batch ends early at this many characters: manifests may be large. */
const BATCH_CHARACTERS = 16 * 1024 * 1024;

interface Due {
  readonly id: number;
  readonly kind: string;
  readonly repository: string | null;
  readonly digest: string | null;
  readonly tag: string | null;
  readonly at: string;
}

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

async function writeBatch(database: Database, store: RecordStore): Promise<boolean> {
  const due = await database.query<Due>(
    'select id, kind, repository, digest, tag, at from records order by id limit $1',
    [BATCH],
  );
  const [first] = due;
  if (!first) return false;
  const lines: string[] = [];
  for (let length = 0; lines.length < due.length && length < BATCH_CHARACTERS; length += lines.at(-1)?.length ?? 0) {
    const row = due[lines.length];
    lines.push(JSON.stringify({ ...row, ...(row && (await contentOf(database, row))) }));
  }
  await store.putRecords(first.id, `${lines.join('\n')}\n`);
  await database.query('delete from records where id = any($1::bigint[])', [
    due.slice(0, lines.length).map((row) => row.id),
  ]);
  return lines.length < due.length || due.length === BATCH;
}

/** What a rebuild needs beyond the row: read now, as blobs and manifests never change; gone means that a removal follows. */
async function contentOf(queries: Queries, row: Due): Promise<object> {
  if (row.kind === 'blob') {
    const [blob] = await queries.query(
      `select b.size, (select json_agg(json_build_object('key', s.key, 'length', s.length, 'objectSize', s.object_size, 'bytes', translate(encode(s.bytes, 'base64'), E'\\n', '')) order by s.position)
          from segments s where s.body = b.body and s.position is not null) as segments from blobs b where b.digest = $1`,
      [row.digest],
    );
    return blob ?? { gone: true };
  }
  if (row.kind === 'manifest') {
    const [manifest] = await queries.query<{ mediaType: string; payload: Buffer }>(
      `select m.media_type as "mediaType", m.payload from repositories r join manifests m on m.repository = r.id
        where r.name = $1 and m.digest = $2`,
      [row.repository, row.digest],
    );
    return manifest ? { mediaType: manifest.mediaType, payload: manifest.payload.toString('base64') } : { gone: true };
  }
  return {};
}
