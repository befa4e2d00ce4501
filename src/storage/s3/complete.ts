import { RegistryError } from '../../errors.js';
import { pauseBefore } from './attempts.js';
import type { S3Bucket } from './bucket.js';
import { isAnswer, storageFailure } from './failures.js';
import type { ListedPart } from './part-plan.js';
import { soundBytes } from './part-plan.js';
import type { PausePoint, SealClaim, SegmentState } from '../segment-store.js';

/** What the row of a segment keeps of its upload. The parts' ETags are with S3. */
export interface UploadState extends Readonly<Record<string, unknown>> {
  readonly upload: string;
  /** How many parts, from the first, S3 has acknowledged. */
  readonly parts: number;
}

/** A Complete may still take place so long after its sender gave it up: see `completeUpload`, and as much again to spare. */
export function settleSecondsOf(limitMs: number): number {
  return Math.ceil((4 * limitMs) / 1000);
}

/**
 * Completes an upload, again until the result is known; an unclear one is never followed by an abort. A Complete is sent
 * only within the limit of one request since the claim was asked for, and ends within another.
 * @param asked when that was, by `performance.now()`.
 * @returns the object's size, or undefined if S3 has other parts than these, or no such upload and no object.
 * @throws 'Unavailable' when nobody can say.
 */
export async function completeUpload(
  bucket: S3Bucket,
  name: string,
  upload: string,
  parts: readonly Omit<ListedPart, 'size'>[],
  asked: number,
  pause: PausePoint,
): Promise<number | undefined> {
  let last: unknown = new Error('the claim took longer than a request may');
  for (let count = 0; performance.now() - asked < bucket.limitMs; count++) {
    if (count > 0) await pauseBefore(count);
    let sure = false;
    try {
      await pause('s3:completing');
      await bucket.complete(name, upload, parts);
      await pause('s3:completed');
    } catch (error) {
      last = error;
      sure = isAnswer(error, 'missing', 'parts', 'refused');
    }
    // It also tells what became of an earlier one, whatever the last said.
    const found = await bucket.find(name).catch((error: unknown) => {
      throw storageFailure(error);
    });
    if (found) return found.size;
    if (!sure) continue;
    if (isAnswer(last, 'missing', 'parts')) return undefined;
    break;
  }
  throw new RegistryError('Unavailable', 'the last bytes of this upload are still being put in their place', {
    cause: last,
    retryAfter: Math.ceil(bucket.limitMs / 1000),
  });
}

/** How often a part may still arrive while a recovered upload is completed. */
const LATE_PARTS = 5;

/**
 * Makes an object of what a writer that is gone has left. RGW takes all parts of an upload or none, so the object may
 * be longer than the row says.
 * @returns its size; undefined if [0, length) is not there.
 * @throws what the claim threw; 'Unavailable' when nobody can say yet.
 */
export async function recoverUpload(
  bucket: S3Bucket,
  name: string,
  length: number,
  state: SegmentState,
  claim: SealClaim,
  pause: PausePoint,
): Promise<number | undefined> {
  try {
    const sizeOf = async () => (await bucket.find(name))?.size;
    const there = await sizeOf();
    const { upload } = (state ?? {}) as Partial<UploadState>;
    if (there !== undefined || upload === undefined) return atLeast(length, there);
    const asked = performance.now();
    await claim(length, state);
    for (let time = 0; time < LATE_PARTS; time++) {
      const parts = await bucket.listParts(name, upload);
      // Completed since the first look?
      if (!parts) return atLeast(length, await sizeOf());
      if (soundBytes(parts) < length) return undefined;
      await pause('s3:listed');
      const size = await completeUpload(bucket, name, upload, parts, asked, pause);
      if (size !== undefined) return atLeast(length, size);
    }
  } catch (error) {
    throw storageFailure(error);
  }
  throw new RegistryError('Unavailable', 'the last bytes of this upload are still arriving', { retryAfter: 5 });
}

function atLeast(length: number, size: number | undefined): number | undefined {
  return size !== undefined && size >= length ? size : undefined;
}
