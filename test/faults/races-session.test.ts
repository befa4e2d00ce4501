import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { recordProgress, rewindSession } from '../../src/registry/upload-progress.js';
import { expireSessions } from '../../src/registry/upload-sessions.js';
import { takeSession } from '../../src/registry/upload-take.js';
import { bodyOf, type Rooms, Site } from '../support/rooms.js';
import { until } from './support/processes.js';
import {
  begin,
  bytesOf,
  NAME,
  outcome,
  read,
  removalRows,
  segmentRows,
  sha256,
  stall,
  stillWaits,
  uploadRow,
} from './races-scene.js';
import { EagerStore } from './races-stores.js';

// Larger than what is swallowed without asking, so that segments keep their places.
const FIRST = bytesOf(100_000, 1);
// Longer than what comes in its place, so that a late record of it would not look like a step back.
const LOST = bytesOf(120_000, 2);
const SECOND = bytesOf(90_000, 3);

describe('races of upload sessions', () => {
  let site: Site;
  let one: Rooms;
  let two: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    one = site.open({ store: (store) => new EagerStore(store), recordBytes: 1 });
    two = site.open({ store: (store) => new EagerStore(store), recordBytes: 1 });
  });
  afterEach(async () => await site.dispose());

  it('a chunk in order takes the session over, and what the former writer still records counts for nothing', async () => {
    const target = await begin(one);
    const client = stall();
    const former = outcome(one.registry.uploads.append(target, bodyOf([FIRST, client.wait, LOST])));
    await client.reached;
    const later = await two.registry.uploads.append(target, bodyOf([SECOND], { from: FIRST.length }));
    expect(later).to.equal(FIRST.length + SECOND.length);
    client.go();
    expect(await former).to.equal('UploadTaken');
    expect((await uploadRow(one, target.id))?.offset).to.equal(FIRST.length + SECOND.length);
    const digest = sha256(FIRST, SECOND);
    await one.registry.uploads.finish(target, digest, undefined);
    expect(await read(two, digest)).to.deep.equal(Buffer.concat([FIRST, SECOND]));
  });

  it('is taken by one of two first requests that come together, and then by the other', async () => {
    const target = await begin(one);
    const lock = stall();
    const locking = one.database.transaction(async (transaction) => {
      await transaction.query('select from uploads where id = $1 for update', [target.id]);
      await lock.wait();
    });
    await lock.reached;
    const requests = [one, two].map((rooms) =>
      outcome(rooms.registry.uploads.append(target, bodyOf([FIRST], { from: 0 }))),
    );
    await until('both wait for the row', async () => {
      const waiting = `select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`;
      return (await two.database.query(waiting)).length === 2;
    });
    lock.go();
    await locking;
    const outcomes = await Promise.all(requests);
    expect(outcomes.filter((name) => name === 'done')).to.have.length(1);
    expect(outcomes.find((name) => name !== 'done')).to.be.oneOf(['UploadTaken', 'UploadOutOfOrder']);
    await two.registry.uploads.finish(target, sha256(FIRST), undefined);
    expect(await read(one, sha256(FIRST))).to.deep.equal(FIRST);
  });

  it('what a late writer adds to its file after a takeover is never read', async () => {
    const target = await begin(one);
    const client = stall();
    const former = outcome(one.registry.uploads.append(target, bodyOf([FIRST, client.wait, LOST])));
    await client.reached;
    const held = two.pauses.hold('upload:taken');
    const later = two.registry.uploads.append(target, bodyOf([SECOND], { from: FIRST.length }));
    await held.reached;
    client.go();
    expect(await former).to.equal('UploadTaken');
    held.release();
    await later;
    const digest = sha256(FIRST, SECOND);
    await two.registry.uploads.finish(target, digest, undefined);
    const [segment] = await segmentRows(one, target.id);
    expect(segment?.length).to.equal(FIRST.length);
    const { size } = await stat(join(site.root, segment?.key ?? ''));
    expect(size).to.equal(FIRST.length + LOST.length);
    expect(await read(one, digest)).to.deep.equal(Buffer.concat([FIRST, SECOND]));
  });

  it('a segment that its writer may still extend is never handed to others as a whole object', async () => {
    const target = await begin(one);
    const client = stall();
    const former = outcome(one.registry.uploads.append(target, bodyOf([FIRST, client.wait, LOST])));
    await client.reached;
    const digest = sha256(FIRST);
    await two.registry.uploads.finish(target, digest, undefined);
    expect((await two.registry.blobs.getOpenable(NAME, digest)).wholeObject).to.equal(undefined);
    client.go();
    expect(await former).to.equal('UploadTaken');
    expect(await read(two, digest)).to.deep.equal(FIRST);
  });

  it('a body without Content-Range begins where the client was told, and durable bytes beyond lose their names', async () => {
    const target = await begin(one);
    const broken = stall();
    const former = outcome(one.registry.uploads.append(target, bodyOf([FIRST, LOST, broken.wait])));
    await broken.reached;
    broken.breakOff();
    expect(await former).to.equal('ClientGone');
    expect(await uploadRow(one, target.id)).to.include({ offset: FIRST.length + LOST.length, told: 0 });
    const digest = sha256(FIRST, SECOND);
    await two.registry.uploads.finish(target, digest, bodyOf([FIRST, SECOND]));
    expect(await read(one, digest)).to.deep.equal(Buffer.concat([FIRST, SECOND]));
    expect(await removalRows(one, target.id)).to.have.length(1);
  });

  it('a segment that the told offset cuts is read up to there only', async () => {
    const target = await begin(one);
    const client = stall();
    const former = outcome(one.registry.uploads.append(target, bodyOf([FIRST, client.wait, LOST])));
    await client.reached;
    expect(await two.registry.uploads.status(target)).to.equal(FIRST.length);
    client.go();
    expect(await former).to.equal('done');
    // The answer of the former is lost; its client goes on from what the status had told.
    await one.database.query('update uploads set told_offset = $2 where id = $1', [target.id, FIRST.length]);
    const digest = sha256(FIRST, SECOND);
    await two.registry.uploads.finish(target, digest, bodyOf([SECOND]));
    const [cut] = await segmentRows(one, target.id);
    expect(cut).to.include({ length: FIRST.length, objectSize: FIRST.length + LOST.length });
    expect(await read(one, digest)).to.deep.equal(Buffer.concat([FIRST, SECOND]));
  });

  it('a chunk out of order is refused and leaves the writer alone', async () => {
    const target = await begin(one);
    const client = stall();
    const writer = one.registry.uploads.append(target, bodyOf([FIRST, client.wait, SECOND]));
    await client.reached;
    for (const from of [0, 5, FIRST.length + 1]) {
      const refused = two.registry.uploads.append(target, bodyOf([LOST], { from }));
      expect(await outcome(refused)).to.equal('UploadOutOfOrder');
    }
    client.go();
    expect(await writer).to.equal(FIRST.length + SECOND.length);
  });

  it('a later request of the same process stops the former at once, though its client says nothing', async () => {
    const target = await begin(one);
    let stopped: () => void = () => {};
    const reached = stall();
    const former = one.registry.uploads.append(target, {
      from: undefined,
      length: undefined,
      async *read(signal) {
        yield FIRST;
        await reached.wait().catch(() => undefined);
        await new Promise<void>((resolve) => {
          stopped = resolve;
          signal.addEventListener('abort', () => resolve(), { once: true });
        });
        signal.throwIfAborted();
      },
    });
    const ended = outcome(former);
    await reached.reached;
    reached.go();
    await one.registry.uploads.append(target, bodyOf([SECOND], { from: FIRST.length }));
    expect(await stillWaits(ended, 15_000)).to.equal(false);
    stopped();
    expect(await ended).to.equal('UploadTaken');
  });

  it('of two that took a session in one order and begin in the other, the later one stays', async () => {
    const target = await begin(one);
    const held = one.pauses.hold('upload:taken');
    const unread = () => Promise.reject(new Error('the body was read'));
    const former = outcome(one.registry.uploads.append(target, bodyOf([unread])));
    await held.reached;
    const client = stall();
    const later = one.registry.uploads.append(target, bodyOf([FIRST, client.wait, SECOND]));
    await client.reached;
    held.release();
    expect(await former).to.equal('UploadTaken');
    client.go();
    expect(await later).to.equal(FIRST.length + SECOND.length);
  });

  it('a record that was lost with its connection and runs late takes nothing back', async () => {
    const target = await begin(one);
    const taken = await take(target.id);
    const prefix = (size: number) => ({ algorithm: 'sha256' as const, size, digest: sha256(FIRST.subarray(0, size)) });
    const progress = (size: number) => ({
      offset: size,
      segment: { id: taken.segment?.id ?? 0, length: size, objectSize: null, state: null, swallowed: [] },
      prefix: prefix(size),
      follower: undefined,
      told: true,
    });
    await recordProgress(one.database, taken, progress(20), 3600);
    expect(await outcome(recordProgress(one.database, taken, progress(10), 3600))).to.equal('UploadTaken');
    expect(await uploadRow(one, target.id)).to.include({ offset: 20, told: 20, prefixSize: 20 });
    await one.database.transaction((transaction) =>
      rewindSession(transaction, taken, { swallowedBytes: 0, recorded: false }),
    );
    expect(await outcome(recordProgress(one.database, taken, progress(30), 3600))).to.equal('UploadTaken');
    expect(await uploadRow(one, target.id)).to.include({ offset: 0, told: 0 });
  });

  async function take(id: string) {
    const taken = await one.database.transaction((transaction) =>
      takeSession(transaction, { id, repository: NAME, from: 0, bringsBytes: true, lifetimeSeconds: 3600 }),
    );
    if (taken.committedDigest !== null) throw new Error('committed');
    return taken;
  }

  it('bytes with a wrong digest leave the session where it was, also when progress was recorded and told', async () => {
    const target = await begin(one);
    await one.registry.uploads.append(target, bodyOf([FIRST]));
    const client = stall();
    const wrong = one.registry.uploads.finish(target, sha256(SECOND), bodyOf([LOST, client.wait, LOST]));
    const ended = outcome(wrong);
    await client.reached;
    expect(await two.registry.uploads.status(target)).to.equal(FIRST.length + LOST.length);
    client.go();
    expect(await ended).to.equal('DigestInvalid');
    expect(await uploadRow(one, target.id)).to.include({ offset: FIRST.length, told: FIRST.length });
    expect(await segmentRows(one, target.id)).to.have.length(1);
    const digest = sha256(FIRST, SECOND);
    await two.registry.uploads.finish(target, digest, bodyOf([SECOND]));
    expect(await read(one, digest)).to.deep.equal(Buffer.concat([FIRST, SECOND]));
  });

  it('a cancel ends the session under its writer, whose bytes are removed', async () => {
    const target = await begin(one);
    const client = stall();
    const writer = outcome(one.registry.uploads.append(target, bodyOf([FIRST, client.wait, SECOND])));
    await client.reached;
    await two.registry.uploads.cancel(target);
    client.go();
    expect(await writer).to.equal('UploadTaken');
    expect(await outcome(one.registry.uploads.status(target))).to.equal('UploadUnknown');
    expect(await segmentRows(one, target.id)).to.have.length(0);
    expect(await removalRows(one, target.id)).to.have.length(1);
  });

  const expire = (rooms: Rooms) => rooms.database.transaction((transaction) => expireSessions(transaction, 100));
  const age = (id: string) =>
    one.database.query(`update uploads set expires_at = now() - interval '1 second' where id = $1`, [id]);

  it('a writer whose session expired is stopped by its next record', async () => {
    const target = await begin(one);
    const client = stall();
    const writer = outcome(one.registry.uploads.append(target, bodyOf([FIRST, client.wait, SECOND])));
    await client.reached;
    await age(target.id);
    expect(await expire(two)).to.equal(1);
    client.go();
    expect(await writer).to.equal('UploadTaken');
    expect(await removalRows(one, target.id)).to.have.length(1);
  });

  it('a session is not swept while a request takes it, and a request does not take one that is being swept', async () => {
    const kept = await begin(one);
    let swept = -1;
    await one.database.transaction(async (transaction) => {
      await takeSession(transaction, {
        ...{ id: kept.id, repository: NAME, from: 0, bringsBytes: false, lifetimeSeconds: 3600 },
      });
      await two.database.transaction(async (other) => {
        swept = await expireSessions(other, 100);
      });
    });
    expect(swept).to.equal(0);

    const gone = await begin(one);
    let late: Promise<unknown> = Promise.resolve();
    await one.database.transaction(async (transaction) => {
      await transaction.query('select from uploads where id = $1 for update', [gone.id]);
      late = outcome(two.registry.uploads.append(gone, bodyOf([FIRST])));
      expect(await stillWaits(late)).to.equal(true);
      await transaction.query(`update uploads set expires_at = now() - interval '1 second' where id = $1`, [gone.id]);
      expect(await expireSessions(transaction, 100)).to.equal(1);
    });
    expect(await late).to.equal('UploadUnknown');
  });

  it('a sweep leaves a session that was prolonged after it was seen to be over', async () => {
    const target = await begin(one);
    await age(target.id);
    await one.database.transaction(async (transaction) => {
      await transaction.query(`update uploads set expires_at = now() + interval '1 hour' where id = $1`, [target.id]);
      expect(await expire(two)).to.equal(0);
    });
    expect(await one.registry.uploads.status(target)).to.equal(0);
  });
});
