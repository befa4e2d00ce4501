import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { type Failure, RegistryError } from '../../../src/errors.js';
import {
  newSegmentKey,
  type SealClaim,
  type SegmentKey,
  type SegmentRange,
  type SegmentState,
  type SegmentStore,
  type WriteProgress,
} from '../../../src/storage/segment-store.js';
import { gather } from '../../support/gather.js';

/** A store to try, with what tells how to get rid of it. */
export interface StoreUnderTest {
  readonly store: SegmentStore;
  dispose(): Promise<void>;
}

const UPLOAD = '6a0f6d6e-61f4-4b0e-9d5c-0d3b6a0e6a51';
const MiB = 1024 * 1024;

let count = 0;
export function newKey(): SegmentKey {
  return newSegmentKey(UPLOAD, count++);
}

/** Bytes that are the same nowhere near. */
export function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(Math.imul(at + 1, 2_654_435_761) >>> 0, at);
  return bytes;
}

export function piecesOf(bytes: Buffer, length: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / length) }, (_, index) =>
    bytes.subarray(index * length, (index + 1) * length),
  );
}

export async function* sourceOf(pieces: readonly (Uint8Array | (() => Promise<void>))[]): AsyncGenerator<Uint8Array> {
  for (const piece of pieces) {
    if (typeof piece === 'function') await piece();
    else yield piece;
  }
}

/** What a writer is told, written down. */
export class Witness implements WriteProgress {
  size = 0;
  readonly passedBytes: Buffer[] = [];
  readonly boundaries: number[] = [];
  readonly reports: { size: number; state: SegmentState }[] = [];

  passed(bytes: Uint8Array): void {
    this.size += bytes.length;
    this.passedBytes.push(Buffer.from(bytes));
  }
  boundary(size: number): void {
    expect(size).to.equal(this.size);
    this.boundaries.push(size);
  }
  async durable(size: number, state: SegmentState): Promise<void> {
    this.reports.push({ size, state });
  }
}

/** The claim of a writer whom nobody disturbs. */
export const agreed: SealClaim = () => Promise.resolve();

export const never = new AbortController().signal;

export async function failureOf(work: Promise<unknown>): Promise<Failure | 'done'> {
  try {
    await work;
    return 'done';
  } catch (error) {
    if (error instanceof RegistryError) return error.failure;
    throw error;
  }
}

/** What every store keeps to; `make` gives an empty one. */
export function describeSegmentStore(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(`the contract of segment stores: ${name}`, () => {
    let made: StoreUnderTest;
    let store: SegmentStore;

    beforeEach(async () => {
      made = await make();
      store = made.store;
    });
    afterEach(async () => await made.dispose());

    async function put(bytes: Buffer, pieceLength = 64 * 1024): Promise<SegmentKey> {
      const key = newKey();
      const segment = await store.begin(key);
      await segment.write(sourceOf(piecesOf(bytes, pieceLength)), never, new Witness());
      await segment.seal(agreed);
      await segment.close();
      return key;
    }

    async function read(key: SegmentKey, range: SegmentRange): Promise<Buffer> {
      return await gather(await store.open(key, range));
    }

    async function keys(): Promise<SegmentKey[]> {
      const found: SegmentKey[] = [];
      for await (const key of store.list()) found.push(key);
      return found.sort();
    }

    it('gives back what was written, whole and in parts', async () => {
      const bytes = pattern(3 * MiB + 17);
      const key = await put(bytes, 100_001);
      expect(await store.stat(key)).to.deep.equal({ size: bytes.length });
      for (const [start, end] of [
        [0, bytes.length],
        [0, 1],
        [bytes.length - 1, bytes.length],
        [MiB - 1, MiB + 1],
        [5, 2 * MiB + 5],
      ] as const) {
        expect((await read(key, { start, end })).equals(bytes.subarray(start, end))).to.equal(true);
      }
    });

    it('takes pieces of any size, and none at all', async () => {
      const bytes = pattern(5_000);
      expect((await read(await put(bytes, 1), { start: 0, end: 5_000 })).equals(bytes)).to.equal(true);
      const large = pattern(2 * MiB);
      expect((await read(await put(large, large.length), { start: 0, end: large.length })).equals(large)).to.equal(
        true,
      );
      expect(await store.stat(await put(Buffer.alloc(0)))).to.deep.equal({ size: 0 });
    });

    it('tells what passes in order, and reports only window ends, rising, as durable', async () => {
      const bytes = pattern(40 * MiB);
      const witness = new Witness();
      const segment = await store.begin(newKey());
      await segment.write(sourceOf(piecesOf(bytes, 300_000)), never, witness);
      expect(await segment.seal(agreed)).to.include({ size: bytes.length, objectSize: bytes.length });
      await segment.close();
      expect(Buffer.concat(witness.passedBytes).equals(bytes)).to.equal(true);
      const sizes = witness.reports.map(({ size }) => size);
      expect(sizes.length).to.be.greaterThan(0);
      expect(sizes).to.deep.equal([...new Set(sizes)].sort((a, b) => a - b));
      for (const size of sizes) expect(witness.boundaries).to.include(size);
    });

    it('seals what passed before its source broke off', async () => {
      const bytes = pattern(200_000);
      const key = newKey();
      const segment = await store.begin(key);
      const broken = new RegistryError('ClientGone', 'gone');
      const source = sourceOf([...piecesOf(bytes, 50_000), () => Promise.reject(broken)]);
      expect(await failureOf(segment.write(source, never, new Witness()))).to.equal('ClientGone');
      expect(await segment.seal(agreed)).to.include({ size: bytes.length });
      await segment.close();
      expect((await read(key, { start: 0, end: bytes.length })).equals(bytes)).to.equal(true);
    });

    it('ends a write with the reason of its signal', async () => {
      const controller = new AbortController();
      const segment = await store.begin(newKey());
      const source = sourceOf([
        pattern(1_000),
        async () => controller.abort(new RegistryError('UploadTaken', 'taken')),
        pattern(1_000),
      ]);
      expect(await failureOf(segment.write(source, controller.signal, new Witness()))).to.equal('UploadTaken');
      expect(await segment.seal(agreed)).to.include({ size: 1_000 });
      await segment.close();
    });

    it('can be sealed and closed more than once, and closed without being sealed', async () => {
      const key = newKey();
      const segment = await store.begin(key);
      await segment.write(sourceOf([pattern(100)]), never, new Witness());
      await Promise.all([segment.seal(agreed), segment.seal(agreed)]);
      await Promise.all([segment.close(), segment.close()]);
      expect(await segment.seal(agreed)).to.include({ size: 100 });
      expect((await read(key, { start: 0, end: 100 })).equals(pattern(100))).to.equal(true);
      await (await store.begin(newKey())).close();
    });

    it('begins a key once', async () => {
      const key = await put(pattern(10));
      expect(await failureOf(store.begin(key))).to.equal('Unavailable');
      expect((await read(key, { start: 0, end: 10 })).equals(pattern(10))).to.equal(true);
    });

    it('says that bytes are damaged that are not there, before the first of them', async () => {
      const key = await put(pattern(10));
      expect(await failureOf(store.open(key, { start: 0, end: 11 }))).to.equal('BlobDamaged');
      expect(await failureOf(store.open(key, { start: 20, end: 21 }))).to.equal('BlobDamaged');
      expect(await failureOf(store.open(newKey(), { start: 0, end: 1 }))).to.equal('BlobDamaged');
    });

    it('takes up the segment of a writer that is gone, and again, without changing it', async () => {
      const bytes = pattern(17 * MiB);
      const key = newKey();
      const segment = await store.begin(key);
      const witness = new Witness();
      await segment.write(sourceOf(piecesOf(bytes, 300_000)), never, witness);
      await segment.seal(agreed);
      await segment.close();
      const state = witness.reports.at(-1)?.state ?? null;
      const length = witness.reports.at(-1)?.size ?? 0;
      for (let time = 0; time < 2; time++) {
        const found = await store.recover(key, length, state, agreed);
        expect(found?.objectSize ?? bytes.length).to.be.at.least(length);
      }
      expect((await read(key, { start: 0, end: length })).equals(bytes.subarray(0, length))).to.equal(true);
      expect((await store.stat(key))?.size).to.be.at.least(length);
    });

    it('says that a segment is lost which is not there or shorter than its row', async () => {
      const key = await put(pattern(100));
      expect(await store.recover(key, 101, null, agreed)).to.equal(undefined);
      expect(await store.recover(newKey(), 1, null, agreed)).to.equal(undefined);
      expect(await store.recover(key, 100, null, agreed)).to.not.equal(undefined);
    });

    it('lists keys, and removes one, also when it is gone', async () => {
      const made = [await put(pattern(1)), await put(pattern(2)), await put(pattern(3))].sort();
      expect(await keys()).to.deep.equal(made);
      expect(await store.remove(made[1] as SegmentKey)).to.equal(false);
      expect(await store.remove(made[1] as SegmentKey)).to.equal(true);
      expect(await store.remove(newKey())).to.equal(true);
      expect(await store.stat(made[1] as SegmentKey)).to.equal(undefined);
      expect(await keys()).to.deep.equal([made[0], made[2]]);
    });

    it('lends a piece until the next one is asked for, however slow its readers are', async () => {
      const bytes = pattern(5 * MiB);
      const key = await put(bytes);
      const readSlowly = async (start: number) => {
        let at = start;
        for await (const piece of await store.open(key, { start, end: bytes.length })) {
          await sleep(10);
          expect(bytes.subarray(at, at + piece.length).equals(piece), `at ${at}`).to.equal(true);
          at += piece.length;
        }
        expect(at).to.equal(bytes.length);
      };
      await Promise.all([0, 1, MiB, 3 * MiB].map(readSlowly));
    });

    it('lets a reader end early', async () => {
      const key = await put(pattern(4 * MiB));
      for (let time = 0; time < 20; time++) {
        const stream = await store.open(key, { start: 0, end: 4 * MiB });
        if (time % 2 === 0) for await (const _ of stream) break;
        else await stream.return();
        expect(await stream.next()).to.deep.equal({ done: true, value: undefined });
      }
    });

    it('keeps its marker, which lists nothing and is written once', async () => {
      const marker = await store.readMarker();
      expect(marker).to.be.a('string');
      expect(await keys()).to.deep.equal([]);
      for (const another of ['another', String(marker)]) {
        let refused = false;
        await store.mark(another).catch(() => {
          refused = true;
        });
        expect(refused, another).to.equal(true);
      }
      expect(await store.readMarker()).to.equal(marker);
    });
  });
}
