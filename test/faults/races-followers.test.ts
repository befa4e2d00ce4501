import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { bodyOf, type Rooms, Site } from '../support/rooms.js';
import { until } from './support/processes.js';
import { begin, bytesOf, outcome, read, segmentRows, sha256, stall, stillWaits, uploadRow } from './races-scene.js';
import { CountingStore, EagerStore } from './races-stores.js';

/** Each smaller than the one before it, so that none swallows it. */
const [FIRST, SECOND, LAST] = [500_000, 400_000, 300_000].map((length, index) => bytesOf(length, index)) as [
  Buffer,
  Buffer,
  Buffer,
];
const WHOLE = Buffer.concat([FIRST, SECOND, LAST]);

describe('the follower of an upload that several processes serve', () => {
  let site: Site;
  let stores: CountingStore[];
  let follower: Rooms;
  let other: Rooms;
  let target: Awaited<ReturnType<typeof begin>>;

  const pool = process.env.TEST_DATABASE_POOL ? { pool: Number(process.env.TEST_DATABASE_POOL) } : {};
  const open = (options: { patienceMs?: number; sliceBytes?: number } = {}): Rooms =>
    site.open({
      ...pool,
      ...options,
      store: (store) => {
        const counting = new CountingStore(store);
        stores.push(counting);
        return counting;
      },
    });
  const bytesRead = () =>
    stores.map((store) => store.reads.reduce((sum, { range }) => sum + range.end - range.start, 0));
  /** As if another process had followed, and had died. */
  const loseFollower = () =>
    other.database.query(`update uploads set follower = gen_random_uuid(), followed_at = now() - interval '1 minute'`);

  beforeEach(async () => {
    site = await Site.make();
    stores = [];
    follower = open();
    other = open();
    target = await begin(follower);
    await follower.registry.uploads.append(target, bodyOf([FIRST]));
  });
  afterEach(async () => await site.dispose());

  it('reads what others wrote, once, and a final PUT elsewhere waits for it and reads nothing', async () => {
    const held = follower.pauses.hold('upload:following');
    await other.registry.uploads.append(target, bodyOf([SECOND]));
    await held.reached;
    const finish = other.registry.uploads.finish(target, sha256(WHOLE), bodyOf([LAST]));
    expect(await stillWaits(finish, 60)).to.equal(true);
    held.release();
    await finish;
    expect(bytesRead()).to.deep.equal([SECOND.length + LAST.length, 0]);
    expect(await read(other, sha256(WHOLE))).to.deep.equal(WHOLE);
  });

  it('that gives no sign loses its place, and records nothing when it wakes up', async () => {
    const held = follower.pauses.hold('upload:followed');
    await other.registry.uploads.append(target, bodyOf([SECOND]));
    await held.reached;
    await loseFollower();
    expect(await outcome(other.registry.uploads.finish(target, sha256(FIRST), undefined))).to.equal('DigestInvalid');
    const before = await uploadRow(other, target.id);
    expect(before).to.include({ prefixSize: FIRST.length + SECOND.length });
    held.release();
    await follower.registry.uploads.stop();
    expect(await uploadRow(other, target.id)).to.deep.equal(before);
    await other.registry.uploads.finish(target, sha256(WHOLE), bodyOf([LAST]));
    expect(bytesRead()).to.deep.equal([SECOND.length, FIRST.length + SECOND.length]);
  });

  it('that lives but records nothing is waited for only so long, and then the final PUT reads for itself', async () => {
    const held = follower.pauses.hold('upload:following');
    await other.registry.uploads.append(target, bodyOf([SECOND]));
    await held.reached;
    const impatient = open({ patienceMs: 100 });
    await impatient.registry.uploads.finish(target, sha256(WHOLE), bodyOf([LAST]));
    expect(impatient.pauses.passed).to.include('upload:waiting');
    held.release();
    await follower.registry.uploads.stop();
    expect(bytesRead()).to.deep.equal([SECOND.length, 0, WHOLE.length]);
    expect(await read(other, sha256(WHOLE))).to.deep.equal(WHOLE);
  });

  it('whose place a final PUT takes: that one records how far it is, so that who comes after it waits', async () => {
    const hung = follower.pauses.hold('upload:following');
    await other.registry.uploads.append(target, bodyOf([SECOND, LAST]));
    await hung.reached;
    await loseFollower();
    const slow = open({ sliceBytes: 300_000 });
    const holds = Array.from({ length: 3 }, () => slow.pauses.hold('upload:followed'));
    const former = outcome(slow.registry.uploads.finish(target, sha256(WHOLE), undefined));
    for (const [index, hold] of holds.entries()) {
      await hold.reached;
      if (index < 2) hold.release();
    }
    expect(await uploadRow(slow, target.id)).to.include({ prefixSize: 600_000 });
    const later = open();
    const finish = later.registry.uploads.finish(target, sha256(WHOLE), undefined);
    await until('the later one waits', () => later.pauses.passed.includes('upload:waiting'));
    holds[2]?.release();
    await finish;
    expect(await former).to.be.oneOf(['done', 'UploadTaken']);
    hung.release();
    expect(bytesRead().slice(1)).to.deep.equal([0, WHOLE.length, 0]);
  });

  it('forgets what it read of a segment that is found lost, though it read it after the finder had taken the session', async () => {
    const behind = follower.pauses.hold('upload:following');
    await other.registry.uploads.append(target, bodyOf([SECOND]));
    await behind.reached;
    await other.registry.uploads.append(target, bodyOf([LAST]));
    const key = (await segmentRows(other, target.id)).at(-1)?.key ?? '';
    // As if it had never been sealed: what a finder looks for.
    const setSize = (size: number | null) =>
      other.database.query('update segments set object_size = $2 where key = $1', [key, size]);
    await setSize(null);
    const finder = open();
    const taken = finder.pauses.hold('upload:taken');
    const found = outcome(finder.registry.uploads.append(target, bodyOf([FIRST])));
    await taken.reached;
    await setSize(LAST.length);
    const [before, after] = [follower.pauses.hold('upload:followed'), follower.pauses.hold('upload:followed')];
    behind.release();
    before.release();
    await after.reached;
    await rm(join(site.root, key));
    taken.release();
    expect(await found).to.equal('UploadOutOfOrder');
    // As many bytes again, before the follower has looked.
    const others = bytesOf(LAST.length, 78);
    await other.registry.uploads.append(target, bodyOf([others], { from: FIRST.length + SECOND.length }));
    after.release();
    await other.registry.uploads.finish(target, sha256(FIRST, SECOND, others), undefined);
    expect(bytesRead()).to.deep.equal([SECOND.length + LAST.length + WHOLE.length, 0, 0]);
  });

  it('records no digest of bytes that a wrong final PUT has taken back meanwhile', async () => {
    const wrong = bytesOf(LAST.length, 77);
    await other.registry.uploads.append(target, bodyOf([SECOND]));
    await other.registry.uploads.finish(target, sha256(WHOLE), undefined).catch(() => undefined);
    const held = follower.pauses.hold('upload:followed');
    const finish = outcome(other.registry.uploads.finish(target, sha256(WHOLE), bodyOf([wrong])));
    await held.reached;
    const [row] = await other.database.query<{ follower: string }>('select follower from uploads');
    await loseFollower();
    expect(await finish).to.equal('DigestInvalid');
    const rewound = await uploadRow(other, target.id);
    expect(rewound).to.include({ offset: FIRST.length + SECOND.length, told: FIRST.length + SECOND.length });
    // As many bytes again, so that only the epoch tells them from those that were taken back.
    await other.registry.uploads.append(target, bodyOf([LAST]));
    await other.database.query('update uploads set prefix_size = 0, prefix_digest = null, follower = $1', [
      row?.follower,
    ]);
    held.release();
    await follower.registry.uploads.stop();
    expect(await uploadRow(other, target.id)).to.include({ prefixSize: 0, prefixDigest: null });
    await open().registry.uploads.finish(target, sha256(WHOLE), undefined);
    expect(await read(other, sha256(WHOLE))).to.deep.equal(WHOLE);
  });

  it('goes on with the rows as they are when what it reads was swallowed', async () => {
    const small = bytesOf(1_000, 5);
    await other.registry.uploads.append(target, bodyOf([small]));
    const held = follower.pauses.hold('upload:following');
    await other.registry.uploads.append(target, bodyOf([SECOND]));
    await held.reached;
    const old = (await segmentRows(other, target.id)).at(-1);
    await other.registry.uploads.append(target, bodyOf([WHOLE], { length: WHOLE.length }));
    expect((await segmentRows(other, target.id)).map(({ key }) => key)).not.to.include(old?.key);
    await rm(join(site.root, old?.key ?? ''));
    held.release();
    await other.registry.uploads.finish(target, sha256(FIRST, small, SECOND, WHOLE), undefined);
    // What it swallowed, and nothing for the digest.
    expect(bytesRead()[1]).to.equal(small.length + FIRST.length + small.length + SECOND.length);
  });

  it('reads nothing that its writer may yet take back', async () => {
    const eager = site.open({ ...pool, store: (store) => new EagerStore(store), recordBytes: 1 });
    const client = stall();
    const pieces = bodyOf([SECOND, client.wait], { length: SECOND.length + 1 });
    const wrong = outcome(eager.registry.uploads.append(target, pieces));
    await client.reached;
    expect(await uploadRow(other, target.id)).to.include({ offset: FIRST.length + SECOND.length });
    // It has looked a few times by then.
    await sleep(200);
    client.go();
    expect(await wrong).to.equal('SizeInvalid');
    const others = bytesOf(SECOND.length, 79);
    await other.registry.uploads.append(target, bodyOf([others]));
    await other.registry.uploads.finish(target, sha256(FIRST, others, LAST), bodyOf([LAST]));
  });

  it('whose turn comes late does not read what a request of its own process has hashed meanwhile', async () => {
    const holds = Array.from({ length: 4 }, () => follower.pauses.hold('upload:following'));
    for (const hold of holds) {
      const before = await begin(follower);
      await follower.registry.uploads.append(before, bodyOf([FIRST]));
      await other.registry.uploads.append(before, bodyOf([SECOND]));
      await hold.reached;
    }
    await other.registry.uploads.append(target, bodyOf([SECOND]));
    // It has seen that by then, and stands in line.
    await sleep(200);
    const recorded = follower.pauses.hold('upload:recorded');
    const append = follower.registry.uploads.append(target, bodyOf([LAST]));
    await recorded.reached;
    for (const hold of holds) hold.release();
    await until(
      'the others are read',
      () => follower.pauses.passed.filter((name) => name === 'upload:followed').length >= 4,
    );
    await sleep(100);
    recorded.release();
    await append;
    await other.registry.uploads.finish(target, sha256(FIRST, SECOND, LAST), undefined);
    expect(bytesRead()).to.deep.equal([5 * SECOND.length, 0]);
  });

  it('does not hold up a request of its own that is ousted while it waits for what is being read', async () => {
    const held = follower.pauses.hold('upload:following');
    await other.registry.uploads.append(target, bodyOf([SECOND]));
    await held.reached;
    const waiting = outcome(follower.registry.uploads.append(target, bodyOf([LAST])));
    expect(await stillWaits(waiting, 60)).to.equal(true);
    follower.registry.uploads.oust(target.id, Number.POSITIVE_INFINITY);
    expect(await waiting).to.equal('UploadTaken');
    held.release();
  });

  it('is waited for by one request: who takes the session from that one has it answered at once', async () => {
    const held = follower.pauses.hold('upload:following');
    await other.registry.uploads.append(target, bodyOf([SECOND]));
    await held.reached;
    const third = open();
    const waiting = outcome(other.registry.uploads.finish(target, sha256(WHOLE), bodyOf([LAST])));
    while (!other.pauses.passed.includes('upload:waiting')) await sleep(5);
    const later = third.registry.uploads.finish(target, sha256(WHOLE), undefined);
    expect(await waiting).to.equal('UploadTaken');
    held.release();
    await later;
  });

  it('that can’t read gives its place up, and who commits says why', async () => {
    await follower.registry.uploads.stop();
    const second = open();
    await second.registry.uploads.append(target, bodyOf([SECOND]));
    const held = second.pauses.hold('upload:following');
    await other.registry.uploads.append(target, bodyOf([LAST]));
    await held.reached;
    const key = (await segmentRows(other, target.id)).at(-1)?.key ?? '';
    await rm(join(site.root, key));
    held.release();
    await until('its place is free', async () => {
      const [row] = await other.database.query<{ follower: string | null }>('select follower from uploads');
      return row?.follower === null;
    });
    expect(await outcome(other.registry.uploads.finish(target, sha256(WHOLE), undefined))).to.equal('BlobDamaged');
  });

  it('leaves its place free when its process ends, and the next one reads what it lacks', async () => {
    await follower.registry.uploads.stop();
    await other.registry.uploads.finish(target, sha256(WHOLE), bodyOf([SECOND, LAST]));
    expect(bytesRead()).to.deep.equal([0, FIRST.length]);
  });
});
