import { isFailure, RegistryError } from '../errors.js';
import { algorithmOf, type Digest, RunningDigest } from '../oci/digest.js';
import { readBody, type Segment } from '../registry/bodies.js';
import type { SegmentKey, SegmentStore } from '../storage/segment-store.js';
import type { Pace } from './pace.js';

/** A blob as its rows tell it, at one moment. */
export interface BlobRows {
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  readonly body: number;
  readonly quarantined: boolean;
  readonly segments: readonly Segment[];
}

/**
 * What is wrong with a blob's bytes: the object of a segment is gone or too short, its segments do not sum up to its size,
 * or all of them have another digest. Sizes in bytes.
 */
export type Damage =
  | { readonly kind: 'missing' | 'short'; key: SegmentKey; wanted: number; found: number }
  | { readonly kind: 'rows'; wanted: number; found: number }
  | { readonly kind: 'digest'; wanted: Digest; found: Digest };

/** What a look at a blob found: nothing wrong if `damage` is undefined. */
export interface Look {
  readonly damage: Damage | undefined;
  /** Segments whose objects are longer than their rows say: nothing is lost, but only the registry may read them. */
  readonly longer: readonly { readonly key: SegmentKey; readonly size: number }[];
}

export interface LookOptions {
  readonly store: SegmentStore;
  /** Whether the bytes are read and hashed; otherwise only whether they are there. */
  readonly deep: boolean;
  readonly bytes: Pace;
  readonly objects: Pace;
  /** Told of bytes that were read. */
  readonly passed: (bytes: number) => void;
}

/**
 * Looks at a blob as its rows tell it. What a file system remembers of a file that was written elsewhere is not taken for
 * damage: what looks short is opened anew.
 * @throws 'Unavailable' when the store failed, which says nothing of the blob; the signal's reason.
 */
export async function lookAt(blob: BlobRows, options: LookOptions, signal: AbortSignal): Promise<Look> {
  const longer: { key: SegmentKey; size: number }[] = [];
  const sum = blob.segments.reduce((bytes, { length }) => bytes + length, 0);
  if (sum !== blob.size) return { damage: { kind: 'rows', wanted: blob.size, found: sum }, longer };
  for (const segment of blob.segments) {
    if (segment.bytes !== null) continue;
    signal.throwIfAborted();
    await options.objects.passed(1, signal);
    const size = (await options.store.stat(segment.key))?.size;
    if (size === undefined || size < segment.length) {
      const damage = await surely(options.store, segment);
      if (damage) return { damage, longer };
    } else if (size > segment.length && segment.objectSize === segment.length) longer.push({ key: segment.key, size });
  }
  const damage = options.deep ? await hash(blob, options, signal) : undefined;
  return { damage, longer };
}

/** Opens an object at the last byte that is wanted. @returns what is wrong, undefined if that byte is there. */
async function surely(store: SegmentStore, { key, length }: Segment): Promise<Damage | undefined> {
  try {
    const bytes = await store.open(key, { start: length - 1, end: length });
    try {
      await bytes.next();
    } finally {
      await bytes.return();
    }
    return undefined;
  } catch (error) {
    if (!isFailure(error, 'BlobDamaged')) throw error;
    const found = (await store.stat(key))?.size;
    if (found === undefined) return { kind: 'missing', key, wanted: length, found: 0 };
    return found < length ? { kind: 'short', key, wanted: length, found } : undefined;
  }
}

async function hash(blob: BlobRows, options: LookOptions, signal: AbortSignal): Promise<Damage | undefined> {
  const running = new RunningDigest(algorithmOf(blob.digest));
  try {
    for await (const bytes of readBody(options.store, blob.segments, { start: 0, end: blob.size })) {
      signal.throwIfAborted();
      running.update(bytes);
      options.passed(bytes.length);
      await options.bytes.passed(bytes.length, signal);
    }
  } catch (error) {
    if (!isFailure(error, 'BlobDamaged')) throw error;
    // It was all there a moment ago.
    for (const segment of blob.segments) {
      const damage = segment.bytes === null ? await surely(options.store, segment) : undefined;
      if (damage) return damage;
    }
    throw new RegistryError('Unavailable', 'the storage contradicts itself', { cause: error });
  }
  const found = running.digest();
  return found === blob.digest ? undefined : { kind: 'digest', wanted: blob.digest, found };
}
