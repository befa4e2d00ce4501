import { expect } from 'chai';
import type { Digest } from '../../src/oci/digest.js';
import { auditChanges } from '../../src/metadata/audit.js';
import { recordBy } from '../../src/registry/changes.js';
import { adoptStore } from '../../src/registry/installation.js';
import { S3Bucket } from '../../src/storage/s3/bucket.js';
import type { S3Options } from '../../src/storage/s3/client.js';
import { bytesOf, NAME, outcome, push, pushChunks, read } from '../faults/races-scene.js';
import { isQuarantined, keysOf, pass, record, scrubOf, wait30Days } from '../faults/scrub-scene.js';
import { type Rooms, Site } from '../support/rooms.js';
import { empty, openStore, placeIn } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import { Gateway } from './support/gateway.js';
import { TIMEOUT_SECONDS } from './support/scene.js';

const MiB = 1024 * 1024;
const BYTES = bytesOf(9 * MiB, 1);

describe('the scrub of a bucket', function () {
  this.timeout(120_000);
  let ceph: Ceph;
  let place: S3Options;
  let copy: S3Options;
  let site: Site;
  let gateway: Gateway;
  let bucket: S3Bucket;
  let rooms: Omit<Rooms, 'store'> & { store: ReturnType<typeof openStore>['store'] };
  let closing: (() => void)[];
  let digest: Digest;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
  });
  beforeEach(async () => {
    [place, copy] = [placeIn(ceph), placeIn(ceph)];
    [site, gateway] = await Promise.all([Site.make(), Gateway.before(ceph)]);
    bucket = new S3Bucket(place);
    const { store } = openStore(place, { endpoint: gateway.endpoint, timeoutSeconds: TIMEOUT_SECONDS });
    rooms = { ...site.open({ store: () => store, observers: [recordBy(auditChanges)] }), store };
    closing = [() => bucket.close(), () => store.close()];
    await adoptStore(rooms.database, store);
    digest = await push(rooms, BYTES);
  });
  afterEach(async () => {
    for (const close of closing) close();
    await gateway.close();
    await site.dispose();
    await Promise.all([empty(place), empty(copy)]);
  });

  const key = async (of = digest) => String((await keysOf(rooms, of))[0]);
  const changed = () => Buffer.concat([BYTES.subarray(0, 5 * MiB), Buffer.from('x'), BYTES.subarray(5 * MiB + 1)]);
  const ofRooms = () => rooms as unknown as Rooms;

  for (const [name, kind, harm] of [
    ['a changed byte', 'digest', async () => await bucket.put(await key(), changed())],
    ['a shorter object', 'short', async () => await bucket.put(await key(), BYTES.subarray(1))],
    ['a missing object', 'missing', async () => await bucket.remove(await key())],
  ] as const)
    it(`quarantines a blob after ${name}, and a push heals it`, async () => {
      const well = await pushChunks(rooms, [bytesOf(8 * MiB, 2), bytesOf(6 * MiB, 3)]);
      await harm();
      const { told, kinds } = await pass(ofRooms());
      expect(kinds()).to.deep.equal([kind]);
      expect(told.looked).to.equal(2);
      expect([await isQuarantined(rooms, digest), await isQuarantined(rooms, well)]).to.deep.equal([true, false]);
      expect(await outcome(rooms.registry.blobs.getOpenable(NAME, digest))).to.equal('BlobDamaged');
      await push(rooms, BYTES);
      expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
      expect((await pass(ofRooms())).told.faults).to.deep.equal([]);
    });

  it('sends nobody any more to an object that is longer', async () => {
    await bucket.put(await key(), Buffer.concat([BYTES, Buffer.from('more')]));
    const light = scrubOf(rooms, { deep: false });
    expect((await light.scrubber.step('', new AbortController().signal)).counts).to.include({ blobs: 1, faults: 0 });
    expect((await rooms.registry.blobs.getOpenable(NAME, digest)).urlFor).to.equal(undefined);
    expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
  });

  it('heals from another prefix of the bucket, and takes no wrong copy', async () => {
    const mirror = new S3Bucket(copy);
    const { store: second } = openStore(copy);
    closing.push(
      () => mirror.close(),
      () => second.close(),
    );
    const lost = await key();
    await bucket.remove(lost);
    await mirror.put(lost, changed());
    expect((await pass(ofRooms(), { second })).told).to.deep.include({ healed: [] });
    expect(await isQuarantined(rooms, digest)).to.equal(true);
    await mirror.put(lost, BYTES);
    expect((await pass(ofRooms(), { second })).told).to.deep.include({ healed: ['second-store'] });
    expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
    expect(await key()).not.to.equal(lost);
    expect((await record(rooms)).map(({ action }) => action)).to.deep.equal(['blob.quarantine', 'blob.heal']);
  });

  for (const [name, fate] of [
    ['answers 503', { status: 503, code: 'SlowDown' }],
    ['answers 403 to good keys', { status: 403, code: 'InvalidAccessKeyId' }],
    ['hangs', 'hang'],
    ['breaks off', { cutAfter: MiB }],
  ] as const)
    it(`quarantines nothing while the gateway ${name}, and goes on after it`, async () => {
      await push(rooms, bytesOf(2 * MiB, 4));
      await wait30Days(rooms);
      gateway.fate = ({ operation }) => (operation === 'Get' || operation === 'Head' ? fate : 'pass');
      const scrub = scrubOf(rooms);
      // What breaks off in the middle is asked for again.
      expect(await outcome(scrub.job.run())).to.equal(name === 'breaks off' ? 'done' : 'Unavailable');
      gateway.fate = () => 'pass';
      while (await scrub.job.run());
      expect(scrub.told).to.deep.include({ looked: 2, faults: [], unread: [] });
    });

  it('quarantines nothing while an OSD is down', async () => {
    await wait30Days(rooms);
    await ceph.killOsd();
    const scrub = scrubOf(rooms);
    try {
      expect(await outcome(scrub.job.run())).to.equal('Unavailable');
    } finally {
      await ceph.startOsd();
    }
    while (await scrub.job.run().catch(() => true));
    expect(scrub.told).to.deep.include({ looked: 1, faults: [] });
  });
});
