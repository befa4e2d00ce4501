import { expect } from 'chai';
import { RegistryError } from '../../src/errors.js';
import {
  agreed,
  failureOf,
  never,
  newKey,
  pattern,
  piecesOf,
  sourceOf,
  Witness,
} from '../unit/storage/segment-store-contract.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import type { Fate, Operation } from './support/gateway.js';
import { put, read, Scene, TIMEOUT_SECONDS } from './support/scene.js';

const MiB = 1024 * 1024;
const PART = 8 * MiB;
const BYTES = pattern(3 * PART + 100);

async function errorOf(work: Promise<unknown>): Promise<RegistryError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof RegistryError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

describe('faults of S3', () => {
  let ceph: Ceph;
  let scene: Scene;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
  });
  beforeEach(async () => {
    scene = await Scene.make(ceph);
  });
  afterEach(async () => await scene.dispose());

  /** Every request of these operations meets `fate` the first time, and passes after it. */
  function once(fate: Fate, ...operations: Operation[]): void {
    scene.gateway.fate = ({ operation, before }) => (before === 0 && operations.includes(operation) ? fate : 'pass');
  }

  for (const [what, fate] of [
    ['the gateway is busy', { status: 503, code: 'SlowDown' }],
    ['the gateway fails', { status: 500, code: 'InternalError' }],
    ['a dead OSD makes it forget who we are', { status: 403, code: 'InvalidAccessKeyId' }],
    ['it waited for a dead OSD', { status: 408, code: 'RequestTimeout' }],
    ['its answer gets lost', 'lose-answer'],
    ['it hangs', 'hang'],
  ] as const) {
    it(`cost nobody anything when ${what} once at each step`, async () => {
      const { store } = scene.open();
      once(fate, 'Head', 'Put', 'Begin', 'Part', 'Complete', 'Get', 'ListUploads', 'Abort', 'Delete');
      const small = await put(store, pattern(1_000));
      // A Complete that hangs is sent by nobody again before its time.
      if (fate === 'hang') once(fate, 'Head', 'Begin', 'Part', 'Get', 'ListUploads', 'Abort', 'Delete');
      const large = await put(store, BYTES);
      expect((await read(store, small.key, 0, 1_000)).equals(pattern(1_000))).to.equal(true);
      expect((await read(store, large.key, 10, BYTES.length)).equals(BYTES.subarray(10))).to.equal(true);
      expect(scene.gateway.count('Abort')).to.equal(0);
      expect(await store.remove(large.key)).to.equal(false);
      expect(await store.stat(large.key)).to.equal(undefined);
    });
  }

  it('show when bytes were damaged on their way: sent again where they are kept, refused where they are not', async () => {
    once('damage', 'Put', 'Part');
    const { store } = scene.open();
    const small = await put(store, pattern(1_000));
    const large = await put(store, BYTES);
    expect((await read(store, small.key, 0, 1_000)).equals(pattern(1_000))).to.equal(true);
    expect((await read(store, large.key, 0, BYTES.length)).equals(BYTES)).to.equal(true);
    const streaming = scene.open({ memory: MiB }).store;
    expect(await failureOf(put(streaming, BYTES))).to.equal('Unavailable');
  });

  for (const [what, fate] of [
    ['refuses', { status: 503, code: 'SlowDown' }],
    ['denies', { status: 403, code: 'AccessDenied' }],
    ['hangs', 'hang'],
  ] as const) {
    it(`are given up when the gateway ${what} for good, and what was reported durable still counts`, async () => {
      const { store } = scene.open();
      scene.gateway.fate = ({ operation, part }) => (operation === 'Part' && part > 1 ? fate : 'pass');
      const key = newKey();
      const segment = await store.begin(key);
      const witness = new Witness();
      const begun = performance.now();
      const failures = [
        await errorOf(
          segment.write(sourceOf(piecesOf(BYTES, 100_000)), never, witness).then(() => segment.seal(agreed)),
        ),
        await errorOf(segment.seal(agreed)),
      ];
      for (const { failure, retryAfter } of failures) {
        expect(failure).to.equal('Unavailable');
        expect(retryAfter).to.be.within(1, 60);
      }
      expect((performance.now() - begun) / 1000).to.be.below(10 * TIMEOUT_SECONDS);
      await segment.close();
      expect(witness.reports.map(({ size }) => size)).to.deep.equal([PART]);
      scene.gateway.fate = () => 'pass';
      const state = witness.reports[0]?.state ?? null;
      const recovered = await store.recover(key, PART, state, agreed);
      expect(recovered?.objectSize).to.be.at.least(PART);
      expect((await read(store, key, 0, PART)).equals(BYTES.subarray(0, PART))).to.equal(true);
    });
  }

  it('say that there is no room, when that is so', async () => {
    const { store } = scene.open();
    scene.gateway.fate = ({ operation }) => (operation === 'Part' ? { status: 403, code: 'QuotaExceeded' } : 'pass');
    expect(await failureOf(put(store, BYTES))).to.equal('StorageFull');
  });

  it('at Complete never make two of one: what is unclear is looked at first, and no later than the claim allows', async () => {
    const { store } = scene.open();
    once('lose-answer', 'Complete');
    const { key } = await put(store, BYTES);
    expect(scene.gateway.count('Complete')).to.equal(1);
    expect((await read(store, key, 0, BYTES.length)).equals(BYTES)).to.equal(true);

    const before = scene.gateway.count('Complete');
    const late = () => new Promise<void>((resolve) => setTimeout(resolve, TIMEOUT_SECONDS * 1000 + 50));
    expect((await errorOf(put(store, BYTES, { claim: late }))).failure).to.equal('Unavailable');
    expect(scene.gateway.count('Complete')).to.equal(before);

    const refused = () => Promise.reject(new RegistryError('UploadTaken', 'taken'));
    expect((await errorOf(put(store, BYTES, { claim: refused }))).failure).to.equal('UploadTaken');
    expect(scene.gateway.count('Complete')).to.equal(before);
  });

  it('that leave a Complete unclear are for a successor, who ends it, also when it took place', async () => {
    for (const fate of ['hang', { status: 500, code: 'InternalError' }] as const) {
      const { store } = scene.open();
      scene.gateway.fate = ({ operation }) => (operation === 'Complete' ? fate : 'pass');
      const key = newKey();
      const segment = await store.begin(key);
      await segment.write(sourceOf(piecesOf(BYTES, 100_000)), never, new Witness());
      let claimed: { size: number; state: Parameters<typeof store.recover>[2] } | undefined;
      const failure = await errorOf(
        segment.seal(async (size, state) => {
          claimed = { size, state };
        }),
      );
      expect(failure.failure).to.equal('Unavailable');
      await segment.close();
      expect(claimed?.size).to.equal(BYTES.length);
      scene.gateway.fate = () => 'pass';
      let claims = 0;
      const claim = async () => {
        claims += 1;
      };
      for (let time = 0; time < 2; time++)
        expect(await store.recover(key, BYTES.length, claimed?.state ?? null, claim)).to.deep.equal({
          objectSize: BYTES.length,
        });
      expect(claims).to.equal(1);
      expect((await read(store, key, 0, BYTES.length)).equals(BYTES)).to.equal(true);
    }
    expect(scene.gateway.count('Abort')).to.equal(0);
  });

  for (const [what, fate] of [
    ['breaks', { cutAfter: 5 * MiB }],
    ['stands still', { stallAfter: 5 * MiB }],
  ] as const) {
    it(`do not end a download whose connection ${what}`, async () => {
      const { store } = scene.open();
      const { key } = await put(store, BYTES);
      scene.gateway.fate = ({ operation, before }) => (operation === 'Get' && before < 2 ? fate : 'pass');
      expect((await read(store, key, 7, BYTES.length)).equals(BYTES.subarray(7))).to.equal(true);
      expect(scene.gateway.count('Get')).to.equal(3);
    });
  }

  it('end a download of which nothing comes any more, with an error', async () => {
    const { store } = scene.open();
    const { key } = await put(store, BYTES);
    scene.gateway.fate = ({ operation, before }) => {
      if (operation !== 'Get') return 'pass';
      return before === 0 ? { cutAfter: 5 * MiB } : { status: 503, code: 'SlowDown' };
    };
    expect(await failureOf(read(store, key, 0, BYTES.length))).to.equal('Unavailable');
  });

  it('that last longer than a gateway lives end with it: a killed radosgw, and one that hangs', async () => {
    const { store } = scene.open();
    let kills = 0;
    scene.gateway.fate = async ({ operation, part }): Promise<Fate> => {
      if (operation === 'Part' && part === 2 && kills++ === 0) {
        await ceph.signalGateway('SIGKILL');
        await ceph.up();
      }
      return 'pass';
    };
    const { key } = await put(store, BYTES);
    expect((await read(store, key, 0, BYTES.length)).equals(BYTES)).to.equal(true);
    await ceph.signalGateway('SIGSTOP');
    try {
      expect((await errorOf(put(store, BYTES))).failure).to.equal('Unavailable');
      expect(await failureOf(read(store, key, 0, 10))).to.equal('Unavailable');
    } finally {
      await ceph.signalGateway('SIGCONT');
    }
    expect((await read(store, key, 0, 10)).equals(BYTES.subarray(0, 10))).to.equal(true);
  });

  it('tell no secret in their errors', async () => {
    const { store } = scene.open();
    scene.gateway.fate = () => ({ status: 403, code: 'SignatureDoesNotMatch' });
    const error = await errorOf(store.readMarker());
    const { inspect } = await import('node:util');
    expect(inspect(error, { depth: 10, showHidden: true })).to.match(/SignatureDoesNotMatch/);
    expect(inspect(error, { depth: 10, showHidden: true })).not.to.match(/cephdevsecret|Credential=|Signature=/);
  });
});
