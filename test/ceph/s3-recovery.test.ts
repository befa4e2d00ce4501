import { expect } from 'chai';
import { isFailure, type RegistryError } from '../../src/errors.js';
import { removalsJob } from '../../src/gc/removals.js';
import { adoptStore } from '../../src/registry/installation.js';
import { S3Bucket } from '../../src/storage/s3/bucket.js';
import type { SegmentKey } from '../../src/storage/segment-store.js';
import {
  begin,
  bytesOf,
  outcome,
  read,
  removalRows,
  segmentRows,
  sha256,
  stall,
  uploadRow,
} from '../faults/races-scene.js';
import { silent } from '../support/postgres.js';
import { bodyOf, Pauses, type Rooms, Site } from '../support/rooms.js';
import { empty, openStore, placeIn } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import { Gateway } from './support/gateway.js';
import { TIMEOUT_SECONDS } from './support/scene.js';

const MiB = 1024 * 1024;
const PART = 8 * MiB;
const SETTLE_SECONDS = 4 * TIMEOUT_SECONDS;
const FIRST = bytesOf(2 * PART + 1_000, 1);
const SECOND = bytesOf(300_000, 2);

async function errorOf(work: Promise<unknown>): Promise<RegistryError> {
  try {
    await work;
  } catch (error) {
    if (isFailure(error)) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

describe('segments in a bucket whose writer is gone', () => {
  let ceph: Ceph;
  let site: Site;
  let gateway: Gateway;
  let place: ReturnType<typeof placeIn>;
  let closing: (() => void)[];

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
  });
  beforeEach(async () => {
    [site, gateway] = await Promise.all([Site.make(), Gateway.before(ceph)]);
    place = placeIn(ceph);
    closing = [];
    const { store } = openStore(place);
    await adoptStore(site.open().database, store);
    store.close();
  });
  afterEach(async () => {
    for (const close of closing) close();
    await gateway.close();
    await Promise.all([site.dispose(), empty(place)]);
  });

  /** A process of its own on the same bucket; `steps` are the pause points of its store. */
  function open(): Rooms & { steps: Pauses } {
    const steps = new Pauses();
    const { store } = openStore(place, {
      endpoint: gateway.endpoint,
      timeoutSeconds: TIMEOUT_SECONDS,
      pause: steps.point,
    });
    closing.push(() => store.close());
    const rooms = site.open({ store: () => store, recordBytes: 1 });
    return { ...rooms, steps };
  }
  const letTheClaimAge = () =>
    site
      .open()
      .database.query('update segments set sealing_since = sealing_since - make_interval(secs => $1)', [
        SETTLE_SECONDS + 1,
      ]);
  const append = (rooms: Rooms, target: Awaited<ReturnType<typeof begin>>, bytes: Buffer, from: number) =>
    rooms.registry.uploads.append(target, bodyOf([bytes], { from }));

  /** A writer that stalls when FIRST has passed and all its whole parts are recorded; nobody ever hears of it again. */
  async function abandon(): Promise<{ target: Awaited<ReturnType<typeof begin>>; end: () => Promise<string> }> {
    const one = open();
    const target = await begin(one);
    const client = stall();
    const former = outcome(one.registry.uploads.append(target, bodyOf([FIRST, client.wait])));
    await client.reached;
    while ((await uploadRow(one, target.id))?.offset !== 2 * PART) await new Promise((done) => setTimeout(done, 20));
    return {
      target,
      end: async () => {
        client.go();
        return await former;
      },
    };
  }

  it('are completed with what the row knows, and what comes after goes on from there', async () => {
    const { target, end } = await abandon();
    const two = open();
    expect(await append(two, target, SECOND, 2 * PART)).to.equal(2 * PART + SECOND.length);
    expect((await segmentRows(two, target.id))[0]).to.include({ length: 2 * PART, objectSize: 2 * PART });
    const whole = Buffer.concat([FIRST.subarray(0, 2 * PART), SECOND]);
    await two.registry.uploads.finish(target, sha256(whole), undefined);
    expect((await read(two, sha256(whole))).equals(whole)).to.equal(true);
    // Its last part finds no upload any more.
    expect(await end()).to.equal('UploadTaken');
    expect((await read(two, sha256(whole))).equals(whole)).to.equal(true);
    expect(gateway.count('Abort')).to.equal(0);
  });

  it('are ragged when S3 has more parts than the row knows, which all go into the object, beyond its length', async () => {
    const { target, end } = await abandon();
    const two = open();
    const [segment] = await segmentRows(two, target.id);
    const bucket = new S3Bucket(place);
    for await (const { name, upload } of bucket.uploads('')) {
      // As if the fifth had overtaken the third.
      const bytes = bytesOf(6 * MiB, 7);
      const { createHash } = await import('node:crypto');
      const md5 = createHash('md5').update(bytes).digest('base64');
      await bucket.putPart(name, upload, 5, bytes, md5, new AbortController().signal);
    }
    bucket.close();
    expect(await append(two, target, SECOND, 2 * PART)).to.equal(2 * PART + SECOND.length);
    expect((await segmentRows(two, target.id))[0]).to.deep.include({
      key: segment?.key,
      length: 2 * PART,
      objectSize: 2 * PART + 6 * MiB,
    });
    const whole = Buffer.concat([FIRST.subarray(0, 2 * PART), SECOND]);
    await two.registry.uploads.finish(target, sha256(whole), undefined);
    expect((await read(two, sha256(whole))).equals(whole)).to.equal(true);
    expect(await end()).to.equal('UploadTaken');
  });

  it('are lost, and the client told so, when S3 has too few of their parts', async () => {
    const { target, end } = await abandon();
    const bucket = new S3Bucket(place);
    for await (const { name, upload } of bucket.uploads('')) await bucket.abort(name, upload);
    bucket.close();
    const two = open();
    const error = await errorOf(append(two, target, SECOND, 2 * PART));
    expect([error.failure, error.detail]).to.deep.equal(['UploadOutOfOrder', { offset: 0 }]);
    expect(await append(two, target, FIRST, 0)).to.equal(FIRST.length);
    await two.registry.uploads.finish(target, sha256(FIRST), undefined);
    expect((await read(two, sha256(FIRST))).equals(FIRST)).to.equal(true);
    expect(await end()).to.equal('UploadTaken');
  });

  for (const step of ['upload:sealing', 's3:completing', 's3:completed', 'upload:sealed'] as const) {
    it(`are whole, though it claimed and died at ${step}, and is made whole again when it was only asleep`, async () => {
      const one = open();
      const target = await begin(one);
      const held = (step.startsWith('s3:') ? one.steps : one.pauses).hold(step);
      const former = outcome(one.registry.uploads.append(target, bodyOf([FIRST])));
      await held.reached;
      const two = open();
      const there = step === 's3:completed' || step === 'upload:sealed';
      const finish = () => two.registry.uploads.finish(target, sha256(FIRST), undefined);
      if (!there) {
        const refusal = await errorOf(finish());
        expect(refusal.failure).to.equal('Unavailable');
        expect(refusal.retryAfter).to.be.within(1, SETTLE_SECONDS);
        await letTheClaimAge();
      }
      await finish();
      held.release();
      expect(await former).to.equal('UploadTaken');
      expect((await read(two, sha256(FIRST))).equals(FIRST)).to.equal(true);
      expect(gateway.count('Abort')).to.equal(0);
    });
  }

  it('are completed by one of two successors at a time', async () => {
    const { target, end } = await abandon();
    const [two, three] = [open(), open()];
    const held = two.steps.hold('s3:completing');
    const second = outcome(append(two, target, SECOND, 2 * PART));
    await held.reached;
    expect((await errorOf(append(three, target, SECOND, 2 * PART))).failure).to.equal('Unavailable');
    expect(three.steps.passed).not.to.include('s3:completing');
    await letTheClaimAge();
    await append(three, target, SECOND, 2 * PART);
    held.release();
    expect(await second).to.equal('UploadTaken');
    const whole = Buffer.concat([FIRST.subarray(0, 2 * PART), SECOND]);
    await three.registry.uploads.finish(target, sha256(whole), undefined);
    expect((await read(three, sha256(whole))).equals(whole)).to.equal(true);
    expect(await end()).to.equal('UploadTaken');
  });

  it('never complete what was taken from under them before they claimed', async () => {
    const one = open();
    const target = await begin(one);
    const held = one.pauses.hold('upload:written');
    const former = outcome(one.registry.uploads.append(target, bodyOf([FIRST])));
    await held.reached;
    const two = open();
    await two.registry.uploads.append(target, bodyOf([SECOND]));
    held.release();
    expect(await former).to.equal('UploadTaken');
    expect(one.steps.passed).not.to.include('s3:completing');
  });

  it('leave nothing behind when the session is cancelled: neither object nor upload', async () => {
    const { target, end } = await abandon();
    const two = open();
    await two.registry.uploads.cancel(target);
    expect(await end()).to.equal('UploadTaken');
    const { store } = openStore(place);
    const job = removalsJob({
      database: two.database,
      store,
      log: silent,
      pause: () => undefined,
      everyMs: 1000,
      delaySeconds: 0,
      sharePercent: 100,
    });
    const due = () => two.database.query('update removals set not_before = now()');
    // Removed; absent for the first time after it; absent for the second time.
    for (let time = 0; time < 3; time++) {
      await due();
      await job.run();
    }
    expect(await removalRows(two)).to.deep.equal([]);
    const left: SegmentKey[] = [];
    for await (const key of store.list()) left.push(key);
    store.close();
    expect(left).to.deep.equal([]);
  });

  it('are whole though radosgw died in their Complete', async function () {
    this.timeout(300_000);
    for (const delayMs of [2, 6]) {
      const one = open();
      const target = await begin(one);
      // Some time after it has got the request.
      gateway.fate = ({ operation, before }) => {
        if (operation === 'Complete' && before === 0) setTimeout(() => void ceph.signalGateway('SIGKILL'), delayMs);
        return 'pass';
      };
      const first = await outcome(one.registry.uploads.append(target, bodyOf([FIRST])));
      await ceph.up();
      gateway.fate = () => 'pass';
      if (first !== 'done') {
        expect(first).to.equal('Unavailable');
        // Until the lock ends that the dead one held.
        for (let left = 30; ; left--) {
          await letTheClaimAge();
          const last = await outcome(open().registry.uploads.finish(target, sha256(FIRST), undefined));
          if (last === 'done') break;
          expect(last).to.equal('Unavailable');
          expect(left).to.be.above(0);
          await new Promise((done) => setTimeout(done, 1_000));
        }
      } else await one.registry.uploads.finish(target, sha256(FIRST), undefined);
      expect((await read(open(), sha256(FIRST))).equals(FIRST)).to.equal(true);
    }
    expect(gateway.count('Abort')).to.equal(0);
  });
});
