// A place in the bucket, a gateway before it that can misbehave, and a store that goes through it.
import { expect } from 'chai';
import { S3Bucket } from '../../../src/storage/s3/bucket.js';
import type { S3Options } from '../../../src/storage/s3/client.js';
import type { PausePoint, SegmentKey, SegmentStore } from '../../../src/storage/segment-store.js';
import { gather } from '../../support/gather.js';
import { agreed, never, newKey, piecesOf, sourceOf, Witness } from '../../unit/storage/segment-store-contract.js';
import { empty, type OpenedStore, openStore, placeIn } from './bucket.js';
import type { Ceph } from './ceph.js';
import { Gateway } from './gateway.js';

/** What one request may take in these scenes, in seconds. */
export const TIMEOUT_SECONDS = 2;

export class Scene {
  readonly #opened: OpenedStore[] = [];

  private constructor(
    readonly place: S3Options,
    readonly gateway: Gateway,
  ) {}

  static async make(ceph: Ceph): Promise<Scene> {
    return new Scene(placeIn(ceph), await Gateway.before(ceph));
  }

  /** A store that goes through the gateway. */
  open(options: { memory?: number; pause?: PausePoint; timeoutSeconds?: number } = {}): OpenedStore {
    const { endpoint } = this.gateway;
    const opened = openStore(this.place, { timeoutSeconds: TIMEOUT_SECONDS, endpoint, ...options });
    this.#opened.push(opened);
    return opened;
  }

  /** The bucket behind the gateway's back. */
  bucket(): S3Bucket {
    return new S3Bucket(this.place);
  }

  async dispose(): Promise<void> {
    for (const { store, budget } of this.#opened) {
      store.close();
      expect(budget.free, 'memory that is left').to.equal(budget.total);
    }
    await this.gateway.close();
    await empty(this.place);
  }
}

/** Writes and seals a segment. */
export async function put(
  store: SegmentStore,
  bytes: Buffer,
  options: { expected?: boolean; claim?: () => Promise<void> } = {},
) {
  const key = newKey();
  const witness = new Witness();
  const segment = await store.begin(key, options.expected ? bytes.length : undefined);
  try {
    await segment.write(sourceOf(piecesOf(bytes, 100_000)), never, witness);
    const sealed = await segment.seal(options.claim ?? agreed);
    return { key, witness, sealed };
  } finally {
    await segment.close();
  }
}

export async function read(store: SegmentStore, key: SegmentKey, start: number, end: number): Promise<Buffer> {
  return await gather(await store.open(key, { start, end }));
}
