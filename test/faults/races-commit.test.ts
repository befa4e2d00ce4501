import { expect } from 'chai';
import { expireSessions } from '../../src/registry/upload-sessions.js';
import { ACTOR, bodyOf, type Rooms, Site } from '../support/rooms.js';
import {
  begin,
  bytesOf,
  NAME,
  OTHER,
  outcome,
  push,
  read,
  removalRows,
  segmentRows,
  sha256,
  stall,
  stillWaits,
  targetOf,
  uploadRow,
} from './races-scene.js';
import { EagerStore } from './races-stores.js';

const BYTES = bytesOf(100_000, 1);
const MORE = bytesOf(90_000, 2);
const DIGEST = sha256(BYTES);
const unread = {
  from: undefined,
  length: undefined,
  // biome-ignore lint/correctness/useYield: it must not come to that
  async *read(): AsyncGenerator<Uint8Array> {
    throw new Error('the body was read');
  },
};

describe('races of commits', () => {
  let site: Site;
  let one: Rooms;
  let two: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    one = site.open({ store: (store) => new EagerStore(store), recordBytes: 1 });
    two = site.open({ store: (store) => new EagerStore(store), recordBytes: 1 });
  });
  afterEach(async () => await site.dispose());

  const blobs = () =>
    one.database.query<{ digest: string; body: number }>('select digest, body from blobs order by digest');
  const bodies = async () => (await one.database.query('select id from bodies')).length;

  it('the final PUT again is answered alike without reading its body, but only for its digest and repository', async () => {
    await push(one, MORE);
    const target = await begin(one);
    await one.registry.uploads.finish(target, DIGEST, bodyOf([BYTES]));
    await two.registry.uploads.finish(target, DIGEST, unread);
    await two.registry.uploads.finish(target, DIGEST, undefined);
    expect(await outcome(two.registry.uploads.finish(target, sha256(MORE), undefined))).to.equal('UploadUnknown');
    expect(await outcome(two.registry.uploads.append(target, unread))).to.equal('UploadUnknown');
    const elsewhere = targetOf(target.id, OTHER);
    expect(await outcome(two.registry.uploads.finish(elsewhere, DIGEST, undefined))).to.equal('UploadUnknown');
    expect(await outcome(two.registry.uploads.cancel(target))).to.equal('UploadUnknown');
    expect(await read(two, DIGEST)).to.deep.equal(BYTES);
  });

  it('a final PUT that is sent twice at once is answered alike twice', async () => {
    const target = await begin(one);
    await one.registry.uploads.append(target, bodyOf([BYTES]));
    const held = one.pauses.hold('upload:in-commit');
    const first = one.registry.uploads.finish(target, DIGEST, undefined);
    await held.reached;
    const second = two.registry.uploads.finish(target, DIGEST, undefined);
    expect(await stillWaits(second)).to.equal(true);
    held.release();
    await Promise.all([first, second]);
    expect(await blobs()).to.have.length(1);
  });

  it('of two final PUTs with bytes the later one commits, and the former learns that it is done', async () => {
    const target = await begin(one);
    const held = one.pauses.hold('upload:before-commit');
    const former = one.registry.uploads.finish(target, DIGEST, bodyOf([BYTES]));
    await held.reached;
    await two.registry.uploads.finish(target, DIGEST, bodyOf([BYTES]));
    held.release();
    await former;
    expect(await segmentRows(one, target.id)).to.have.length(1);
    expect(await removalRows(one, target.id)).to.have.length(1);
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
  });

  it('a writer that was ousted commits nothing', async () => {
    const target = await begin(one);
    const held = one.pauses.hold('upload:before-commit');
    const former = outcome(one.registry.uploads.finish(target, DIGEST, bodyOf([BYTES])));
    await held.reached;
    const client = stall();
    const later = two.registry.uploads.append(target, bodyOf([MORE, client.wait]));
    await client.reached;
    held.release();
    expect(await former).to.equal('UploadTaken');
    client.go();
    await later;
    expect(await blobs()).to.have.length(0);
    expect(await uploadRow(one, target.id)).to.include({ offset: MORE.length });
  });

  it('a cancel waits for a commit and finds nothing to cancel', async () => {
    const target = await begin(one);
    const held = one.pauses.hold('upload:in-commit');
    const commit = one.registry.uploads.finish(target, DIGEST, bodyOf([BYTES]));
    await held.reached;
    const cancel = outcome(two.registry.uploads.cancel(target));
    expect(await stillWaits(cancel)).to.equal(true);
    held.release();
    await commit;
    expect(await cancel).to.equal('UploadUnknown');
    expect(await removalRows(one)).to.have.length(0);
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
  });

  it('a commit after a cancel commits nothing', async () => {
    const target = await begin(one);
    const held = one.pauses.hold('upload:before-commit');
    const commit = outcome(one.registry.uploads.finish(target, DIGEST, bodyOf([BYTES])));
    await held.reached;
    await two.registry.uploads.cancel(target);
    held.release();
    expect(await commit).to.equal('UploadTaken');
    expect(await blobs()).to.have.length(0);
    expect(await removalRows(one, target.id)).to.have.length(1);
  });

  it('of a commit and the expiry of its session one happens', async () => {
    const committed = await begin(one);
    const inside = one.pauses.hold('upload:in-commit');
    const commit = one.registry.uploads.finish(committed, DIGEST, bodyOf([BYTES]));
    await inside.reached;
    expect(await two.database.transaction((transaction) => expireSessions(transaction, 10))).to.equal(0);
    inside.release();
    await commit;
    await one.database.query('update uploads set expires_at = now()');
    expect(await two.database.transaction((transaction) => expireSessions(transaction, 10))).to.equal(1);
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
    expect(await removalRows(one)).to.have.length(0);

    const expired = await begin(one);
    await one.registry.uploads.append(expired, bodyOf([MORE]));
    const before = one.pauses.hold('upload:before-commit');
    const late = outcome(one.registry.uploads.finish(expired, sha256(MORE), undefined));
    await before.reached;
    await one.database.query('update uploads set expires_at = now()');
    before.release();
    expect(await late).to.equal('UploadTaken');
    expect(await two.database.transaction((transaction) => expireSessions(transaction, 10))).to.equal(1);
    expect(await blobs()).to.have.length(1);
    expect(await removalRows(one, expired.id)).to.have.length(1);
  });

  for (const [where, name] of [
    ['one repository', NAME],
    ['two repositories', OTHER],
  ] as const) {
    it(`two commits of one digest to ${where} both succeed, and one copy stays`, async () => {
      const winner = await begin(one);
      const loser = await begin(two, name);
      const held = one.pauses.hold('upload:in-commit');
      const first = one.registry.uploads.finish(winner, DIGEST, bodyOf([BYTES]));
      await held.reached;
      const second = two.registry.uploads.finish(loser, DIGEST, bodyOf([BYTES]));
      expect(await stillWaits(second)).to.equal(true);
      held.release();
      await Promise.all([first, second]);
      expect(await blobs()).to.have.length(1);
      expect(await bodies()).to.equal(1);
      expect(await removalRows(one, winner.id)).to.have.length(0);
      expect(await removalRows(one, loser.id)).to.have.length(1);
      expect(await read(one, DIGEST, name)).to.deep.equal(BYTES);
    });
  }

  it('a commit of a condemned blob revives its link and renews it', async () => {
    await push(one, BYTES);
    await one.database.query(`update repository_blobs set condemned_at = now(), linked_at = now() - interval '8 days'`);
    expect(await outcome(one.registry.blobs.get(NAME, DIGEST))).to.equal('BlobUnknown');
    await push(two, BYTES);
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
    const [link] = await one.database.query<{ fresh: boolean }>(
      `select linked_at > now() - interval '1 minute' as fresh from repository_blobs`,
    );
    expect(link?.fresh).to.equal(true);
  });

  it('a commit waits for the collector, and makes a blob anew that is gone then', async () => {
    await push(one, BYTES);
    const target = await begin(two);
    let commit: Promise<void> = Promise.resolve();
    await one.database.transaction(async (collector) => {
      await collector.query('select from blobs for update');
      const held = two.pauses.hold('upload:before-commit');
      commit = two.registry.uploads.finish(target, DIGEST, bodyOf([BYTES]));
      await held.reached;
      held.release();
      expect(await stillWaits(commit)).to.equal(true);
      await collector.query('delete from repository_blobs');
      await collector.query('delete from blobs');
    });
    await commit;
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
    expect((await blobs())[0]?.body).to.equal(
      (await one.database.query<{ body: number }>('select body from segments where key like $1', [`%${target.id}%`]))[0]
        ?.body,
    );
  });

  it('a commit of a quarantined blob takes its place, and the old bytes stay for their readers', async () => {
    const first = await begin(one);
    await one.registry.uploads.finish(first, DIGEST, bodyOf([BYTES]));
    await one.database.query('update blobs set quarantined_at = now()');
    expect(await outcome(read(one, DIGEST))).to.equal('BlobDamaged');
    const second = await begin(two);
    await two.registry.uploads.finish(second, DIGEST, bodyOf([BYTES]));
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
    const [old] = await removalRows(one, first.id);
    expect(old?.seconds).to.be.within(30, 61);
    expect(await removalRows(one, second.id)).to.have.length(0);
  });

  it('a mount sees a commit when it is done, and not before', async () => {
    const target = await begin(one);
    const held = one.pauses.hold('upload:in-commit');
    const commit = one.registry.uploads.finish(target, DIGEST, bodyOf([BYTES]));
    await held.reached;
    const mount = () => two.registry.blobs.mount(OTHER, DIGEST, NAME, () => true, ACTOR);
    expect(await mount()).to.equal(undefined);
    held.release();
    await commit;
    expect(await mount()).to.equal(NAME);
    expect(await read(two, DIGEST, OTHER)).to.deep.equal(BYTES);
  });

  it('a wrong final PUT without a body does not stop the writer at work', async () => {
    const target = await begin(one);
    const client = stall();
    const writer = one.registry.uploads.append(target, bodyOf([BYTES, client.wait, MORE]));
    await client.reached;
    expect(await outcome(two.registry.uploads.finish(target, sha256(MORE), undefined))).to.equal('DigestInvalid');
    client.go();
    expect(await writer).to.equal(BYTES.length + MORE.length);
  });

  it('a final PUT without a body ends the session under a writer that has recorded nothing', async () => {
    const target = await begin(one);
    await one.registry.uploads.append(target, bodyOf([BYTES]));
    const client = stall();
    const writer = outcome(one.registry.uploads.append(target, bodyOf([client.wait, MORE])));
    await client.reached;
    await two.registry.uploads.finish(target, DIGEST, undefined);
    client.go();
    expect(await writer).to.equal('UploadTaken');
    expect(await read(two, DIGEST)).to.deep.equal(BYTES);
    expect(await segmentRows(one, target.id)).to.have.length(1);
    expect(await removalRows(one, target.id)).to.have.length(1);
  });

  it('a commit gives way when the writer at work records more after the digest was looked at', async () => {
    const target = await begin(one);
    await one.registry.uploads.append(target, bodyOf([BYTES]));
    const client = stall();
    const writer = one.registry.uploads.append(target, bodyOf([client.wait, MORE]));
    await client.reached;
    const held = two.pauses.hold('upload:before-commit');
    const commit = outcome(two.registry.uploads.finish(target, DIGEST, undefined));
    await held.reached;
    client.go();
    await writer;
    held.release();
    expect(await commit).to.equal('UploadTaken');
    expect(await blobs()).to.have.length(0);
    await two.registry.uploads.finish(target, sha256(BYTES, MORE), undefined);
  });

  it('a commit gives way when other bytes, as many, took the place of those it looked at', async () => {
    const target = await begin(one);
    const broken = stall();
    const ended = outcome(one.registry.uploads.append(target, bodyOf([BYTES, broken.wait])));
    await broken.reached;
    broken.breakOff();
    expect(await ended).to.equal('ClientGone');
    const held = two.pauses.hold('upload:before-commit');
    const commit = outcome(two.registry.uploads.finish(target, DIGEST, undefined));
    await held.reached;
    // Never told of them, this client begins at 0.
    const others = bytesOf(BYTES.length, 9);
    await one.registry.uploads.append(target, bodyOf([others]));
    held.release();
    expect(await commit).to.equal('UploadTaken');
    expect(await blobs()).to.have.length(0);
  });
});
