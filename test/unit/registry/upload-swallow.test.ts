import { expect } from 'chai';
import { isFailure } from '../../../src/errors.js';
import type { Segment } from '../../../src/registry/bodies.js';
import { segmentsToSwallow } from '../../../src/registry/upload-swallow.js';
import { newSegmentKey } from '../../../src/storage/segment-store.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const KEY = newSegmentKey('6a0f6d6e-61f4-4b0e-9d5c-0d3b6a0e6a51', 1);

/** Appends chunks to a session as uploads do. @returns how many segments there are, and how many bytes were copied. */
function upload(count: number, chunk: number, announced = true): { segments: Segment[]; copied: number } {
  const segments: Segment[] = [];
  let copied = 0;
  for (let index = 0; index < count; index++) {
    const swallowed = segmentsToSwallow(segments, announced ? chunk : undefined);
    const bytes = swallowed.reduce((sum, segment) => sum + segment.length, 0);
    segments.splice(segments.length - swallowed.length);
    segments.push({ id: index, key: KEY, length: bytes + chunk, objectSize: null, state: null, bytes: null });
    copied += bytes;
  }
  return { segments, copied };
}

describe('what an upload swallows', () => {
  it('is nothing where the segments before are larger', () => {
    expect(upload(700, 8 * MiB).copied).to.equal(0);
    const [large] = upload(1, GiB).segments;
    expect(segmentsToSwallow(large ? [large] : [], 8 * MiB)).to.deep.equal([]);
  });

  for (const [count, chunk, announced] of [
    [1_000_000, 1 * KiB, true],
    [1_000_000, 1 * KiB, false],
    [100_000, 1, true],
    [100_000, 64 * KiB, false],
    [1_000_000, 1 * MiB, true],
    [200_000, 5 * MiB, false],
    [80_000, 64 * MiB, true],
    [640_000, 8 * MiB, true],
  ] as const) {
    it(`keeps ${count} chunks of ${chunk} bytes, ${announced ? 'announced' : 'not announced'}, below the most segments`, () => {
      const { segments, copied } = upload(count, chunk, announced);
      expect(segments.length).to.be.below(10_000);
      const bytes = segments.reduce((sum, { length }) => sum + length, 0);
      expect(bytes).to.equal(count * chunk);
      // What little ones copy beside their bytes is bounded by what is always allowed.
      expect(copied).to.be.below(bytes * 12 + count * 64 * KiB);
    });
  }

  it('is bounded for every request', () => {
    const { segments } = upload(100_000, 4 * KiB);
    const swallowed = segmentsToSwallow(segments, 100 * GiB);
    expect(swallowed.reduce((sum, { length }) => sum + length, 0)).to.be.at.most(4 * MiB);
  });

  it('does not save a session from too many segments without end', () => {
    const large = Array.from({ length: 10_000 }, (_, id) => ({
      id,
      key: KEY,
      length: 100 * GiB,
      objectSize: null,
      state: null,
      bytes: null,
    }));
    let failure: unknown;
    try {
      segmentsToSwallow(large, 1);
    } catch (error) {
      failure = error;
    }
    expect(isFailure(failure, 'SizeInvalid')).to.equal(true);
  });
});
