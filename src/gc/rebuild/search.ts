import { algorithmOf, type Digest, type DigestAlgorithm, RunningDigest } from '../../oci/digest.js';
import type { SegmentKey, SegmentStore } from '../../storage/segment-store.js';

/** An object that may be a part of a blob. */
export interface Piece {
  readonly key: SegmentKey;
  /** Bytes of the object. */
  readonly size: number;
}

/** Blobs that are looked for: their digests, with their sizes where they are known. */
export class Wanted {
  readonly #sizes = new Map<Digest, number | null>();

  add(digest: Digest, size: number | null): void {
    if (!this.#sizes.get(digest)) this.#sizes.set(digest, size);
  }

  delete(digest: Digest): void {
    this.#sizes.delete(digest);
  }

  has(digest: Digest): boolean {
    return this.#sizes.has(digest);
  }

  get count(): number {
    return this.#sizes.size;
  }

  get digests(): Digest[] {
    return [...this.#sizes.keys()];
  }

  /** sha256 always: what is found is named by it if nobody wants it. */
  algorithms(): DigestAlgorithm[] {
    return [...new Set<DigestAlgorithm>(['sha256', ...this.digests.map(algorithmOf)])];
  }

  /** Sizes above `from` and up to `to`, in order. */
  sizesWithin(from: number, to: number): number[] {
    const sizes = [...this.#sizes.values()].filter(
      (size): size is number => size !== null && size > from && size <= to,
    );
    return [...new Set(sizes)].sort((a, b) => a - b);
  }
}

/** How a blob is made of pieces: of the last one perhaps not all. */
export interface Found {
  readonly digest: Digest;
  readonly size: number;
  readonly segments: readonly { readonly key: SegmentKey; readonly length: number; readonly objectSize: number }[];
}

/**
 * Looks for a wanted blob in what one upload left: all of its pieces in the order in which they were begun, and then with
 * one or several of them left out, as a body does that was begun anew or that swallowed small pieces. The last piece may
 * end early: a blob whose size is known is found in a longer object.
 * @param reads how many pieces may be read; each further way to put them together reads some again
 * @param onBytes hears how many were read
 * @returns what was found; else what all pieces together are, and whether every way was tried
 */
export async function search(
  store: SegmentStore,
  pieces: readonly Piece[],
  wanted: Wanted,
  reads: number,
  onBytes: (bytes: number) => void,
): Promise<{ found?: Found; whole: Found; exhausted: boolean }> {
  let left = Math.max(reads, pieces.length);
  let whole: Found | undefined;
  let exhausted = true;

  const extend = async (
    running: readonly RunningDigest[],
    chosen: readonly Piece[],
    from: number,
  ): Promise<Found | undefined> => {
    for (let next = from; next < pieces.length; next++) {
      const piece = pieces[next];
      if (!piece) break;
      if (left === 0) {
        exhausted = false;
        return undefined;
      }
      left -= 1;
      const longer = running.map((digest) => digest.copy());
      const found = await feed(longer, chosen, piece);
      if (found) return found;
      const all = [...chosen, piece];
      // The first way through is that of all pieces.
      if (all.length === pieces.length) whole ??= foundOf(longer[0] as RunningDigest, all);
      const deeper = await extend(longer, all, next + 1);
      if (deeper) return deeper;
    }
    return undefined;
  };

  const feed = async (
    running: readonly RunningDigest[],
    chosen: readonly Piece[],
    piece: Piece,
  ): Promise<Found | undefined> => {
    const base = running[0]?.size ?? 0;
    const stops = wanted.sizesWithin(base, base + piece.size);
    const match = (): Found | undefined => {
      const hit = running.find((digest) => wanted.has(digest.digest()));
      return hit && foundOf(hit, [...chosen, piece]);
    };
    let at = base;
    for await (const lent of await store.open(piece.key, { start: 0, end: piece.size })) {
      let bytes = lent;
      onBytes(bytes.length);
      for (;;) {
        const stop = stops[0];
        if (stop === undefined || at + bytes.length < stop) break;
        for (const digest of running) digest.update(bytes.subarray(0, stop - at));
        bytes = bytes.subarray(stop - at);
        at = stop;
        stops.shift();
        const found = match();
        if (found) return found;
      }
      for (const digest of running) digest.update(bytes);
      at += bytes.length;
    }
    return match();
  };

  const start = wanted.algorithms().map((algorithm) => new RunningDigest(algorithm));
  const found = await extend(start, [], 0);
  if (found) return { found, whole: found, exhausted };
  if (!whole) throw new Error('no piece was read');
  return { whole, exhausted };
}

function foundOf(digest: RunningDigest, pieces: readonly Piece[]): Found {
  let left = digest.size;
  const segments = pieces.map(({ key, size }) => {
    const length = Math.min(size, left);
    left -= length;
    return { key, length, objectSize: size };
  });
  return { digest: digest.digest(), size: digest.size, segments };
}
