import { RegistryError } from '../errors.js';
import type { Segment } from './bodies.js';

const KiB = 1024;
const MiB = 1024 * KiB;

const MAX_SEGMENTS = 10_000;
/** All that a request copies at most, and what it may copy however little it brings, both doubled at every step. */
const SWALLOW_BYTES = 4 * MiB;
const SMALL_BYTES = 64 * KiB;
/** So many segments of a body double the two, so that chunks of any size reach 5 TiB before the maximum. */
const STEP = 800;

/**
 * The last segments of a session whose bytes a request copies to the beginning of its own. Like a binary counter: it
 * takes those that are no larger than what it has gathered so far, so each byte is copied once per doubling.
 * @param brings how many bytes come with the request, if it says so.
 * @throws 'SizeInvalid' if the body would have too many segments all the same.
 */
export function segmentsToSwallow(segments: readonly Segment[], brings: number | undefined): readonly Segment[] {
  const scale = 2 ** Math.floor(segments.length / STEP);
  let room = SWALLOW_BYTES * scale;
  let gathered = Math.max(brings ?? 0, SMALL_BYTES * scale);
  let first = segments.length;
  for (; first > 0; first--) {
    const length = segments[first - 1]?.length ?? 0;
    if (length > gathered || length > room) break;
    gathered += length;
    room -= length;
  }
  if (first >= MAX_SEGMENTS)
    throw new RegistryError('SizeInvalid', `this upload already has ${MAX_SEGMENTS} chunks; send larger ones`);
  return segments.slice(first);
}
