import { isFailure } from '../../errors.js';
import type { Database } from '../../database/connect.js';
import type { Digest } from '../../oci/digest.js';
import type { RepositoryName } from '../../oci/name.js';
import { ensureRepository } from '../../registry/repositories.js';
import type { SegmentKey } from '../../storage/segment-store.js';
import { makeBlob } from './bodies.js';
import { WANTED } from './blobs.js';
import type { RebuildOptions } from './options.js';
import { type Found, type Piece, search, Wanted } from './search.js';

/** Where bytes are put of which nobody knows any more in which repository they were. */
const LOST_AND_FOUND = 'lost-found' as RepositoryName;

const BATCH = 1_000;
const PAGE = 100;
/** How many objects of one upload are read for a blob of several: all ways to put six together. */
const READS = 64;
/** A session has at most so many segments. */
const MAX_PIECES = 10_000;

interface Group {
  readonly upload: string;
  /** In order. */
  readonly keys: SegmentKey[];
  /** The session is there and open: its client may go on. */
  readonly open: boolean;
}

/**
 * Reads the objects that neither rows nor records name, an upload's at a time. What a manifest or a link names is made the
 * blob that it is; the rest, if nobody has it already, becomes a blob of the repository `lost-found`, whole uploads and
 * broken ones alike, which nothing tells apart. Each that is read is named or noted in the same step, so that a run after a
 * kill reads on where this one was.
 */
export async function hashLeftovers(options: RebuildOptions): Promise<void> {
  const { database, report, dryRun } = options;
  await listLeftovers(options);
  const wanted = await wantedOf(database);
  const [sum] = await database.query<{ objects: number; uploads: number }>(
    'select count(*)::int as objects, count(distinct upload)::int as uploads from rebuilt_objects where digest is null',
  );
  report.objects.found = sum?.objects ?? 0;
  if (dryRun) return;
  report.step(`objects without a name: ${sum?.objects} of ${sum?.uploads} uploads; blobs looked for: ${wanted.count}`);
  for (let after = ''; ; ) {
    await options.check();
    const groups = await database.query<Group>(
      `select g.upload, u.id is not null as open,
              (select json_agg(key order by index, key) from (
                 select key, index from rebuilt_objects o where o.upload = g.upload and o.digest is null
                 union select s.key, split_part(s.key, '.', 2)::int from segments s where s.body = u.body) as k) as keys
         from (select distinct upload from rebuilt_objects where upload > $1 and digest is null order by upload limit ${PAGE}) g
         left join uploads u on u.id::text = g.upload and u.body is not null order by g.upload`,
      [after],
    );
    for (const group of groups) await readGroup(options, group, wanted);
    const last = groups.at(-1);
    if (!last) break;
    after = last.upload;
  }
  if (wanted.count > 0) await searchOpenSessions(options, wanted);
}

/** Notes the keys that nothing names and that no committed transaction gave up. */
async function listLeftovers({ database, store, report, check }: RebuildOptions): Promise<void> {
  const known = `exists (select from segments s where s.key = k.key) or exists (select from removals r where r.key = k.key)
    or exists (select from rebuilt_uploads u where u.upload = k.upload)`;
  await database.query(
    `insert into rebuilt_uploads select distinct substr(key, 4, 36) from (
       select s.key from blobs b join segments s on s.body = b.body
       union all select j.item ->> 'key' from rebuilt_bodies b, jsonb_array_elements(b.segments) as j (item)) as k
     on conflict do nothing`,
  );
  let batch: SegmentKey[] = [];
  let seen = 0;
  const flush = async () => {
    const parts = batch.map((key) => ({ key, upload: key.slice(3, 39), index: Number(key.split('.')[1]) }));
    await database.query(
      `with k as (select distinct on (key) * from unnest($1::text[], $2::text[], $3::int[]) as k (key, upload, index))
       insert into rebuilt_objects (key, upload, index) select key, upload, index from k where not (${known}) on conflict do nothing`,
      [parts.map(({ key }) => key), parts.map(({ upload }) => upload), parts.map(({ index }) => index)],
    );
    seen += batch.length;
    batch = [];
    report.progress(() => `store: ${seen} objects looked at`);
    await check();
  };
  for await (const key of store.list()) if (batch.push(key) >= BATCH) await flush();
  await flush();
  // Of an earlier run that was broken off.
  await database.query(`delete from rebuilt_objects k where ${known}`);
}

/** Blobs that a link or a manifest of the records names and that are not there. */
async function wantedOf(database: Database): Promise<Wanted> {
  const wanted = new Wanted();
  const rows = await database.query<{ digest: Digest; size: number | null }>(
    `select d.digest, d.size from (
       select n.digest, n.size from rebuilt_needs n
       union select t.name, b.size from rebuilt_things t left join rebuilt_bodies b on b.digest = t.name and b.size is not null
        where t.thing = 'link' and t.digest is not null) d
      where ${WANTED} and not exists (select from blobs b where b.digest = d.digest)
        and not exists (select from rebuilt_bodies b where b.digest = d.digest and b.whole)`,
  );
  for (const { digest, size } of rows) wanted.add(digest, size);
  return wanted;
}

async function readGroup(options: RebuildOptions, group: Group, wanted: Wanted): Promise<void> {
  const { store, report } = options;
  const { objects } = report;
  const pieces: Piece[] = [];
  for (const key of group.keys.slice(0, MAX_PIECES)) {
    const there = await store.stat(key);
    if (there && there.size > 0) pieces.push({ key, size: there.size });
    else objects.unfinished += 1;
  }
  if (pieces.length === 0) return;
  const outcome = await read(options, group, pieces, wanted);
  if (!outcome) return;
  objects.hashed += pieces.length;
  const { found, whole, exhausted } = outcome;
  if (found) {
    await keep(options, found, false);
    wanted.delete(found.digest);
    report.reasons.delete(found.digest);
    objects.matched += 1;
    return;
  }
  if (await isKnown(options.database, whole.digest)) {
    await note(options.database, pieces, whole.digest);
    objects.known += pieces.length;
    return;
  }
  if (await wasCollected(options.database, whole.digest)) {
    await note(options.database, pieces, whole.digest);
    objects.known += pieces.length;
    report.notes.push(
      `${whole.digest} was collected, its bytes are still there as ${pieces.map(({ key }) => key).join(' ')}`,
    );
    return;
  }
  if (group.open) {
    objects.left += pieces.length;
    report.notes.push(`the session ${group.upload} is open and has ${pieces.length} objects of which nothing is known`);
    return;
  }
  await keep(options, whole, true);
  objects.kept += 1;
  const ways =
    pieces.length === 1
      ? ''
      : `, put together of ${pieces.length} objects in their order${exhausted ? '' : '; not every other way was tried'}`;
  report.notes.push(`${whole.digest} (${whole.size} bytes${ways}) is in ${LOST_AND_FOUND}: nothing tells where it was`);
}

async function read({ store, report }: RebuildOptions, group: Group, pieces: readonly Piece[], wanted: Wanted) {
  try {
    return await search(store, pieces, wanted, wanted.count > 0 ? READS : 0, (bytes) => {
      report.objects.bytes += bytes;
      report.progress(
        () => `objects: ${report.objects.hashed} of ${report.objects.found} read, ${report.objects.bytes} bytes`,
      );
    });
  } catch (error) {
    if (!isFailure(error, 'BlobDamaged')) throw error;
    report.fault(`objects of the upload ${group.upload} can't be read: ${String(error.cause)}`);
    return undefined;
  }
}

/** Makes the blob, and writes down what nothing had. */
async function keep({ database }: RebuildOptions, found: Found, isLost: boolean): Promise<void> {
  const { digest, size } = found;
  const segments = found.segments.filter(({ length }) => length > 0).map((segment) => ({ ...segment, bytes: null }));
  await database.transaction(async (transaction) => {
    await makeBlob(transaction, { digest, size, segments, at: new Date().toISOString() });
    const keys = segments.map(({ key }) => key);
    await transaction.query('delete from rebuilt_objects where key = any($1::text[])', [keys]);
    await transaction.query(`insert into records (kind, digest) values ('blob', $1)`, [digest]);
    if (!isLost) return;
    const id = await ensureRepository(transaction, LOST_AND_FOUND);
    await transaction.query(
      'insert into repository_blobs (repository, digest) values ($1, $2) on conflict do nothing',
      [id, digest],
    );
    await transaction.query(`insert into records (kind, repository, digest) values ('link', $1, $2)`, [
      LOST_AND_FOUND,
      digest,
    ]);
  });
}

async function isKnown(database: Database, digest: Digest): Promise<boolean> {
  return (await database.query('select from blobs where digest = $1', [digest])).length > 0;
}

/** Whether the last that was written down of a blob is that it was gone. */
async function wasCollected(database: Database, digest: Digest): Promise<boolean> {
  const [last] = await database.query<{ gone: boolean }>(
    `select segments is null as gone from rebuilt_bodies where digest = $1 order by generation desc, id desc, segments is null limit 1`,
    [digest],
  );
  return last?.gone ?? false;
}

async function note(database: Database, pieces: readonly Piece[], digest: Digest): Promise<void> {
  const keys = pieces.map(({ key }) => key);
  await database.query('update rebuilt_objects set digest = $2 where key = any($1::text[])', [keys, digest]);
}

/** A session that was open at the backup may have been committed since without another byte. */
async function searchOpenSessions(options: RebuildOptions, wanted: Wanted): Promise<void> {
  const groups = await options.database.query<Group>(
    `select u.id::text as upload, true as open,
            (select json_agg(s.key order by s.position) from segments s where s.body = u.body and s.position is not null and s.bytes is null) as keys
       from uploads u where u.body is not null and exists (
         select from segments s where s.body = u.body and s.position is not null and s.bytes is null)
        and not exists (select from rebuilt_objects o where o.upload = u.id::text and o.digest is null) order by u.id`,
  );
  for (const group of groups) if (wanted.count > 0) await readGroup(options, group, wanted);
}
