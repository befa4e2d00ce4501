import type { Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import type { SegmentKey, SegmentRange, SegmentState, SegmentStore } from '../storage/segment-store.js';

/** A segment as its row tells it. Rows alone decide lengths. */
export interface Segment {
  readonly id: number;
  readonly key: SegmentKey;
  /** Bytes; what lies beyond in the object is never read. */
  readonly length: number;
  /** Bytes of the object, null as long as nobody knows. */
  readonly objectSize: number | null;
  readonly state: SegmentState;
  /** The bytes, in base64, if they are in the row: then the store has no object of this key. */
  readonly bytes: string | null;
}

/** SQL that gives the segments of the body `$1` or of a joined row, as one JSON array in order. */
export const SEGMENTS_JSON = `coalesce((select json_agg(json_build_object('id', s.id, 'key', s.key, 'length', s.length,
  'objectSize', s.object_size, 'state', s.state, 'bytes', encode(s.bytes, 'base64')) order by s.position) from segments s where s.body = b.body and s.position is not null), '[]')`;

/** Whether the segment's object may hold more than its row names: then only the registry may read it. */
function isRagged(segment: Segment): boolean {
  return segment.objectSize !== segment.length;
}

/** The segment that is all of its body, and its object (if its bytes are not in its row) nothing but that. */
export function wholeSegment(segments: readonly Segment[]): Segment | undefined {
  const [only, ...others] = segments;
  return only && others.length === 0 && !isRagged(only) ? only : undefined;
}

/** The key of the object that is all of its body and nothing but that: others than the registry may read it. */
export function wholeObject(segments: readonly Segment[]): SegmentKey | undefined {
  const whole = wholeSegment(segments);
  return whole?.bytes === null ? whole.key : undefined;
}

/**
 * Takes a body's last name away for good: its keys go into `removals`, its rows go. Nothing may name the body any more
 * (the foreign keys see to it).
 * @param graceSeconds how long the bytes stay for those who are still reading them.
 */
export async function dropBody(transaction: Queries, body: number, graceSeconds: number): Promise<void> {
  await transaction.query(
    `with gone as (delete from segments where body = $1 returning key, bytes),
          queued as (insert into removals (key, not_before)
                     select key, now() + make_interval(secs => $2) from gone where bytes is null)
     delete from bodies where id = $1`,
    [body, graceSeconds],
  );
}

/** Queues the spares of a body for removal: segments that lost their place in it, or never got one. @returns how many. */
export async function dropSpares(transaction: Queries, body: number): Promise<number> {
  const rows = await transaction.query(
    `with gone as (delete from segments where body = $1 and position is null returning key)
     insert into removals (key, not_before) select key, now() from gone returning key`,
    [body],
  );
  return rows.length;
}

interface Piece extends Pick<Segment, 'key' | 'bytes'> {
  readonly range: SegmentRange;
}

/** The pieces of `segments` that make up `range` of their body, in order; empty ones left out. */
function piecesOf(segments: readonly Segment[], range: SegmentRange): Piece[] {
  const pieces: Piece[] = [];
  let base = 0;
  for (const { key, length, bytes } of segments) {
    const start = Math.max(range.start - base, 0);
    const end = Math.min(range.end - base, length);
    if (start < end) pieces.push({ key, bytes, range: { start, end } });
    base += length;
  }
  if (base < range.end) throw new RegistryError('BlobDamaged', 'the rows of this blob do not cover its size');
  return pieces;
}

/**
 * Reads `range` of a body, one segment after the other, in pieces that are lent until the next is asked for.
 * @throws 'BlobDamaged' out of the iteration when a segment turns out missing or short.
 */
export async function* readBody(
  store: SegmentStore,
  segments: readonly Segment[],
  range: SegmentRange,
): AsyncGenerator<Uint8Array, void> {
  for (const piece of piecesOf(segments, range)) {
    if (piece.bytes !== null) {
      yield Buffer.from(piece.bytes, 'base64').subarray(piece.range.start, piece.range.end);
      continue;
    }
    let left = piece.range.end - piece.range.start;
    for await (const bytes of await store.open(piece.key, piece.range)) {
      left -= bytes.length;
      yield bytes;
    }
    if (left !== 0)
      throw new RegistryError('BlobDamaged', 'the stored bytes of this blob are damaged', {
        cause: new Error(`${piece.key} ended ${left} bytes early`),
      });
  }
}
