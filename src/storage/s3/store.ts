import { RegistryError } from '../../errors.js';
import type { MemoryBudget } from '../memory-budget.js';
import { ReadMemory } from '../read-memory.js';
import {
  findRecordFile,
  lastNameAt,
  newRecordName,
  type RecordFile,
  type RecordPlace,
  type RecordStore,
} from '../record-store.js';
import {
  findSegmentKey,
  type LentBytes,
  type OpenSegment,
  type PausePoint,
  type RedirectingSegmentStore,
  type SealClaim,
  type SegmentKey,
  type SegmentRange,
  type SegmentState,
  type UploadingSegmentStore,
} from '../segment-store.js';
import { S3Bucket } from './bucket.js';
import type { S3Options } from './client.js';
import { recoverUpload, settleSecondsOf } from './complete.js';
import { isAnswer, storageFailure } from './failures.js';
import { PartMemory } from './part-memory.js';
import { ObjectRange } from './range.js';
import { S3Segment } from './segment.js';

const MARKER = 'weighhouse.marker';
const BEACONS = 'weighhouse.beacons/';
const RECORDS = 'records/';

export interface S3StoreOptions extends S3Options {
  /** What all uploads of the process share. */
  readonly budget: MemoryBudget;
  /** Bytes that all downloads of the process may read ahead. */
  readonly downloadMemory: number;
  /** Tests hold the store between its requests. */
  readonly pause?: PausePoint;
}

/**
 * Segments as objects of S3, and records beside them (decision 0002):
 *
 *     <prefix>weighhouse.marker              the database's marker
 *     <prefix>weighhouse.beacons/<name>      by which nodes know that they share the prefix
 *     <prefix><2 hex>/<key>                  a segment, or a multipart upload that is to be one
 *     <prefix>records/g<generation>-<sequence>-<random>.jsonl   what the database knows
 */
export class S3Store implements RedirectingSegmentStore, UploadingSegmentStore, RecordStore {
  readonly settleSeconds: number;
  readonly #bucket: S3Bucket;
  readonly #memory: PartMemory;
  readonly #pause: PausePoint;
  readonly #reading: ReadMemory;

  constructor(options: S3StoreOptions) {
    this.#reading = new ReadMemory(options.downloadMemory);
    this.#bucket = new S3Bucket(options);
    this.#memory = new PartMemory(options.budget);
    this.#pause = options.pause ?? (() => undefined);
    this.settleSeconds = settleSecondsOf(this.#bucket.limitMs);
  }

  /** Bytes that all downloads together hold. */
  get readAheadBytes(): number {
    return this.#reading.held;
  }

  /** @throws Error in words for the operator if the bucket can't be used. */
  async prepare(): Promise<void> {
    await this.#bucket.check();
  }

  async begin(key: SegmentKey, expected?: number): Promise<OpenSegment> {
    // It also finds out, before a byte is read, whether the gateway answers.
    const there = await asked(this.#bucket.find(key));
    if (there) throw new RegistryError('Unavailable', 'the storage failed', { cause: new Error(`${key} is there`) });
    return new S3Segment({ bucket: this.#bucket, name: key, memory: this.#memory, pause: this.#pause, expected });
  }

  async recover(
    key: SegmentKey,
    length: number,
    state: SegmentState,
    claim: SealClaim,
  ): Promise<{ objectSize: number } | undefined> {
    const objectSize = await recoverUpload(this.#bucket, key, length, state, claim, this.#pause);
    return objectSize === undefined ? undefined : { objectSize };
  }

  async open(key: SegmentKey, range: SegmentRange): Promise<LentBytes> {
    const failure = (error: unknown) =>
      isAnswer(error, 'missing', 'range') ? damaged(key, range.end, error) : storageFailure(error);
    try {
      const { body, size } = await this.#bucket.get(key, range.start, range.end);
      if (size >= range.end)
        return new ObjectRange(body, { bucket: this.#bucket, key, range, memory: this.#reading, failure });
      body.destroy();
      throw damaged(key, range.end, new Error(`${size} bytes are there`));
    } catch (error) {
      throw failure(error);
    }
  }

  async urlFor(key: SegmentKey, lifetimeSeconds: number): Promise<URL> {
    return await this.#bucket.sign(key, lifetimeSeconds);
  }

  async stat(key: SegmentKey): Promise<{ size: number } | undefined> {
    return await asked(this.#bucket.find(key));
  }

  async remove(key: SegmentKey): Promise<boolean> {
    return await asked(this.#remove(key));
  }

  async #remove(key: SegmentKey): Promise<boolean> {
    let nothing = (await this.#bucket.find(key)) === undefined;
    for await (const { name, upload } of this.#bucket.uploads(key)) {
      if (name !== key) continue;
      nothing = false;
      await this.#bucket.abort(name, upload);
    }
    if (!nothing) await this.#bucket.remove(key);
    return nothing;
  }

  async *listBegun(): AsyncGenerator<SegmentKey> {
    try {
      for await (const { name } of this.#bucket.uploads('')) {
        const key = findSegmentKey(name);
        if (key) yield key;
      }
    } catch (error) {
      throw storageFailure(error);
    }
  }

  async removeStrays(key: SegmentKey): Promise<number> {
    return await asked(this.#removeStrays(key));
  }

  /** Abort takes parts along, also those of the object if RGW died in its Complete: so nothing that has any is aborted. */
  async #removeStrays(key: SegmentKey): Promise<number> {
    let kept = 0;
    if (!(await this.#bucket.find(key))) return kept;
    for await (const { name, upload } of this.#bucket.uploads(key)) {
      if (name !== key) continue;
      const parts = await this.#bucket.listParts(name, upload);
      if (parts?.length === 0) await this.#bucket.abort(name, upload);
      else if (parts) kept += 1;
    }
    return kept;
  }

  async *list(): AsyncGenerator<SegmentKey> {
    try {
      for await (const name of this.#bucket.names('')) {
        const key = findSegmentKey(name);
        if (key) yield key;
      }
    } catch (error) {
      throw storageFailure(error);
    }
    yield* this.listBegun();
  }

  async readMarker(): Promise<string | undefined> {
    return (await asked(this.#bucket.read(MARKER)))?.trim();
  }

  async mark(marker: string): Promise<void> {
    for await (const name of this.#bucket.names('', 10))
      if (name !== MARKER)
        throw new Error(`the bucket holds ${this.#bucket.prefix}${name} but no marker of Weighhouse`);
    try {
      // Not every S3 heeds the condition: whoever marks reads again what stands there.
      if ((await this.#bucket.find(MARKER)) === undefined) {
        await this.#bucket.put(MARKER, Buffer.from(`${marker}\n`), { exclusive: true });
        return;
      }
    } catch (error) {
      if (!isAnswer(error, 'exists')) throw error;
    }
    throw new Error('the bucket has a marker already');
  }

  async putBeacon(name: string): Promise<void> {
    await asked(this.#bucket.put(BEACONS + name, Buffer.alloc(0)));
  }

  async hasBeacon(name: string): Promise<boolean> {
    return (await asked(this.#bucket.find(BEACONS + name))) !== undefined;
  }

  async putRecords(place: RecordPlace, lines: string): Promise<void> {
    await asked(this.#bucket.put(RECORDS + newRecordName(place), Buffer.from(lines)));
  }

  async *listRecords(after?: RecordPlace): AsyncGenerator<RecordFile> {
    const last = after && RECORDS + lastNameAt(after);
    try {
      for await (const name of this.#bucket.names(RECORDS, undefined, last)) {
        const file = findRecordFile(name.slice(RECORDS.length));
        if (file) yield file;
      }
    } catch (error) {
      throw storageFailure(error);
    }
  }

  async readRecords({ name }: RecordFile): Promise<string> {
    const text = await asked(this.#bucket.read(RECORDS + name));
    if (text === undefined) throw new RegistryError('Unavailable', `the records ${name} are gone`);
    return text;
  }

  /** Lets go of connections. */
  close(): void {
    this.#bucket.close();
  }
}

async function asked<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw storageFailure(error);
  }
}

function damaged(key: string, wanted: number, why: unknown): RegistryError {
  const cause = new Error(`segment ${key}: ${wanted} bytes wanted`, { cause: why });
  return new RegistryError('BlobDamaged', 'the stored bytes of this blob are damaged', { cause });
}
