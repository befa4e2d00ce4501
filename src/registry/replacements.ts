import { randomUUID } from 'node:crypto';
import { brokenConstraint, type Database, type Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import { newSegmentKey, type SegmentKey } from '../storage/segment-store.js';
import { dropBody, SEGMENTS_JSON, type Segment, wholeSegment } from './bodies.js';
import { outlast } from './remembered.js';

/** A body of one segment that is being built to take the place of a blob's. */
export interface Replacement {
  readonly digest: Digest;
  /** Bytes of the blob. */
  readonly size: number;
  /** The blob's body so far, with its segments in order. */
  readonly replaces: number;
  readonly segments: readonly Segment[];
  /** The new one; its row and its segment's are committed. */
  readonly body: number;
  readonly segment: { readonly id: number; readonly key: SegmentKey };
  /** Whether the blob is quarantined, and put to use again with it. */
  readonly heals: boolean;
}

/** The row that names the body in the making is gone: it was taken for abandoned, or is finished. */
export class ReplacementLost extends Error {
  override readonly name = 'ReplacementLost';
}

/** Whether anybody is building a replacement, or was and died a moment ago. */
export async function isReplacing(queries: Queries): Promise<boolean> {
  return (await queries.query('select from replacements limit 1')).length > 0;
}

/**
 * Names a new body for a live blob that is not one object of exactly its length.
 * @param leaving if given, for one that has this key among its own, whatever else it is.
 * @returns undefined if there is no such blob (any more), or somebody else replaces its body already.
 */
export async function startReplacement(
  database: Database,
  digest: Digest,
  leaving?: SegmentKey,
): Promise<Replacement | undefined> {
  return await nameReplacement(database, digest, false, (segments) =>
    leaving === undefined ? !wholeSegment(segments) : segments.some(({ key }) => key === leaving),
  );
}

/**
 * Names a body that is to take the place of a blob's.
 * @param heals whether of a quarantined blob, or of one that is not
 * @param isWanted told the blob's segments
 * @returns undefined if there is no such blob (any more), or somebody replaces its body already.
 */
export async function nameReplacement(
  database: Database,
  digest: Digest,
  heals: boolean,
  isWanted: (segments: readonly Segment[]) => boolean,
): Promise<Replacement | undefined> {
  try {
    return await database.transaction(async (transaction) => {
      const [blob] = await transaction.query<{ size: number; body: number; segments: Segment[] }>(
        `select b.size, b.body, ${SEGMENTS_JSON} as segments from blobs b
          where b.digest = $1 and b.size > 0 and (b.quarantined_at is not null) = $2`,
        [digest, heals],
      );
      if (!blob || !isWanted(blob.segments)) return undefined;
      const [made] = await transaction.query<{ body: number; id: number; key: SegmentKey }>(
        `with body as (insert into bodies default values returning id),
              held as (insert into replacements (digest, body, replaces) select $1, id, $2 from body)
         insert into segments (body, key) select id, $3 from body returning body, id, key`,
        [digest, blob.body, newSegmentKey(randomUUID(), 0)],
      );
      if (!made) throw new Error('no row was inserted');
      const { body, ...segment } = made;
      return { digest, size: blob.size, replaces: blob.body, segments: blob.segments, body, segment, heals };
    });
  } catch (error) {
    if (brokenConstraint(error) === 'replacements_pk') return undefined;
    throw error;
  }
}

/** Says that its maker is at work. @throws ReplacementLost: then it must stop. */
export async function keepReplacement(queries: Queries, { digest, body }: Replacement): Promise<void> {
  const rows = await queries.query(
    'update replacements set touched_at = clock_timestamp() where digest = $1 and body = $2 returning digest',
    [digest, body],
  );
  if (rows.length === 0) throw new ReplacementLost(`the replacement of ${digest} was given up by others`);
}

/**
 * Puts the new body, whose segment is sealed, in the place of the old one, whose bytes stay for their readers.
 *
 * Races: a commit of the same digest, a mount and the collector lock the blob's row too. Whoever changed its body, marked
 * it or took it away meanwhile wins, and the new body is dropped. The row of the replacement is deleted first: of a sweep
 * and a finish, and of two finishes, one finds it.
 *
 * @param objectSize bytes of the new segment's object: exactly the blob's, or it would have to be replaced again.
 * @param graceSeconds how long the bytes of the body that goes stay.
 * @returns whether the blob has the new body.
 * @throws ReplacementLost
 */
export async function finishReplacement(
  transaction: Queries,
  replacement: Replacement,
  objectSize: number,
  graceSeconds: number,
): Promise<boolean> {
  const { digest, size, body, replaces, segment, heals } = replacement;
  if (objectSize !== size) throw new Error(`the new object of ${digest} has ${objectSize} bytes, not ${size}`);
  if (!(await unname(transaction, replacement))) throw new ReplacementLost(`the replacement of ${digest} is gone`);
  await transaction.query(
    'update segments set position = 0, length = $2, object_size = $2, state = null where id = $1',
    [segment.id, size],
  );
  const replaced = await transaction.query(
    `update blobs set body = $2, quarantined_at = null where digest = $1 and body = $3 and size = $4
        and (quarantined_at is not null) = $5 returning digest`,
    [digest, body, replaces, size, heals],
  );
  await dropBody(transaction, replaced.length > 0 ? replaces : body, replaced.length > 0 ? graceSeconds : 0);
  if (replaced.length === 0) return false;
  outlast(transaction);
  // What is written down beside the bytes tells the keys.
  await transaction.query(`insert into records (kind, digest) values ('blob', $1)`, [digest]);
  return true;
}

/** Gives a replacement up, if it is still there: it is not if it was finished, whatever the connection said. */
export async function dropReplacement(transaction: Queries, replacement: Replacement): Promise<void> {
  if (await unname(transaction, replacement)) await dropBody(transaction, replacement.body, 0);
}

async function unname(transaction: Queries, { digest, body }: Replacement): Promise<boolean> {
  const rows = await transaction.query('delete from replacements where digest = $1 and body = $2 returning digest', [
    digest,
    body,
  ]);
  return rows.length > 0;
}

/**
 * Drops replacements whose makers were not seen for `idleSeconds`. Their bytes stay for `graceSeconds`: a database that
 * was restored does not know which of them were finished after its backup.
 * @returns how many.
 */
export async function dropAbandoned(database: Database, idleSeconds: number, graceSeconds: number): Promise<number> {
  return await database.transaction(async (transaction) => {
    const rows = await transaction.query<{ body: number }>(
      'delete from replacements where touched_at <= now() - make_interval(secs => $1) returning body',
      [idleSeconds],
    );
    for (const { body } of rows) await dropBody(transaction, body, graceSeconds);
    return rows.length;
  });
}
