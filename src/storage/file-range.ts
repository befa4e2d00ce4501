import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { RegistryError } from '../errors.js';
import { storageError } from './durable-file.js';
import type { SegmentKey, SegmentRange } from './segment-store.js';
import type { Turns } from './turns.js';

/**
 * Reads the range by pieces of `bytes`, and closes the file at its end or when it is destroyed. Where the file ends too
 * soon it is opened again by `reopen`, which gives one that is long enough or none.
 */
export function readRange(
  first: FileHandle,
  key: SegmentKey,
  range: SegmentRange,
  bytes: number,
  turns: Turns,
  reopen: () => Promise<FileHandle | undefined>,
): Readable {
  let file = first;
  let at = range.start;
  async function fill(buffer: Buffer): Promise<number> {
    const { bytesRead } = await turns.take(() => file.read(buffer, 0, buffer.length, at));
    if (bytesRead > 0) return bytesRead;
    const fresh = await reopen();
    if (!fresh) return 0;
    const former = file;
    file = fresh;
    return await turns.take(async () => {
      await former.close();
      return (await fresh.read(buffer, 0, buffer.length, at)).bytesRead;
    });
  }
  async function next(): Promise<Buffer | null> {
    const wanted = Math.min(bytes, range.end - at);
    if (wanted === 0) return null;
    const buffer = Buffer.allocUnsafeSlow(wanted);
    const filled = await fill(buffer);
    if (filled === 0) throw damaged(key, range.end, at);
    at += filled;
    return buffer.subarray(0, filled);
  }
  return new Readable({
    highWaterMark: bytes,
    read() {
      next().then(
        (piece) => this.push(piece),
        (error: unknown) => this.destroy(storageError(error)),
      );
    },
    destroy(error, done) {
      // Waits for a read under way before it closes.
      turns
        .take(() => file.close())
        .then(
          () => done(error),
          () => done(error),
        );
    },
  });
}

/** What is said of a segment that is shorter than it has to be. */
export function damaged(key: SegmentKey, wanted: number, there: number): RegistryError {
  const cause = new Error(`segment ${key}: ${wanted} bytes wanted, ${there} are there`);
  return new RegistryError('BlobDamaged', 'the stored bytes of this blob are damaged', { cause });
}
