import type { Queries } from '../../database/connect.js';
import { algorithmOf, type Digest, RunningDigest } from '../../oci/digest.js';
import type { SegmentStore } from '../../storage/segment-store.js';
import type { RecordedSegment } from './lines.js';

/** Another blob names an object that is to be one's own. */
export class ObjectTaken extends Error {
  override readonly name = 'ObjectTaken';
}

/** A body that is to be a blob's. */
export interface NewBody {
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  readonly segments: readonly RecordedSegment[];
  readonly at: string;
}

/**
 * Looks whether the store holds what a body names, as long as it says; bytes in a row are hashed, of a body that is only
 * those. @returns what is wrong, in words; undefined: nothing
 */
export async function faultOf(
  store: SegmentStore,
  { digest, segments }: Pick<NewBody, 'digest' | 'segments'>,
): Promise<string | undefined> {
  if (segments.every(({ bytes }) => bytes !== null)) {
    const running = new RunningDigest(algorithmOf(digest));
    for (const { bytes } of segments) running.update(Buffer.from(bytes ?? '', 'base64'));
    return running.digest() === digest ? undefined : `its bytes have the digest ${running.digest()}`;
  }
  for (const { key, length, bytes } of segments) {
    if (bytes !== null) continue;
    const there = await store.stat(key);
    if (!there) return `the object ${key} is not there`;
    if (there.size < length) return `the object ${key} has ${there.size} of ${length} bytes`;
  }
  return undefined;
}

const INSERT_SEGMENTS = `insert into segments (body, position, key, length, object_size, bytes)
  select b.id, s.n, s.item ->> 'key', (s.item ->> 'length')::bigint, (s.item ->> 'objectSize')::bigint, decode(s.item ->> 'bytes', 'base64')
    from body b, jsonb_array_elements($1::jsonb) with ordinality as s (item, n)`;

/**
 * Makes a blob, or gives one that is there this body. Its keys are taken away from whoever has them: a session that was
 * open when the backup was made, and was committed since; what compaction had begun; the removals and orphans, so that no
 * sweep takes them. Jobs that remove don't run meanwhile, and find in the end what this transaction left.
 * @throws ObjectTaken
 */
export async function makeBlob(transaction: Queries, body: NewBody): Promise<void> {
  const { digest, size, segments, at } = body;
  const keys = segments.map(({ key }) => key);
  const [former] = await transaction.query<{ body: number }>('select body from blobs where digest = $1 for update', [
    digest,
  ]);
  const holders = await transaction.query<{ body: number; blob: Digest | null }>(
    `select distinct s.body, b.digest as blob from segments s left join blobs b on b.body = s.body where s.key = any($1::text[])`,
    [keys],
  );
  const stranger = holders.find(({ blob }) => blob !== null && blob !== digest);
  if (stranger) throw new ObjectTaken(`its object is one of ${stranger.blob}`);
  const gone = [...new Set([...holders.map((holder) => holder.body), ...(former ? [former.body] : [])])];
  // What the row of a committed session says.
  await transaction.query(
    `update uploads set committed_digest = $2, body = null, epoch = epoch + 1, "offset" = $3, told_offset = $3
      where body = any($1::bigint[])`,
    [gone, digest, size],
  );
  await transaction.query('delete from replacements where body = any($1::bigint[])', [gone]);
  await transaction.query('delete from segments where body = any($1::bigint[])', [gone]);
  const [made] = await transaction.query<{ id: number }>(
    `with body as (insert into bodies default values returning id), parts as (${INSERT_SEGMENTS}) select id from body`,
    [JSON.stringify(segments)],
  );
  await transaction.query(
    `insert into blobs (digest, size, body, created_at) values ($1, $2, $3, $4)
     on conflict (digest) do update set body = excluded.body, size = excluded.size, quarantined_at = null`,
    [digest, size, made?.id, at],
  );
  await transaction.query('delete from bodies where id = any($1::bigint[])', [gone]);
  await transaction.query(
    `with freed as (delete from removals where key = any($1::text[])) delete from orphans where key = any($1::text[])`,
    [keys],
  );
}
