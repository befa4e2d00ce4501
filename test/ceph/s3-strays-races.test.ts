// Races of the job that writes a blob anew over which the gateway died: with readers, deletions, other nodes, compaction,
// deaths between its steps.
import { expect } from 'chai';
import { abandonedJob } from '../../src/gc/compaction.js';
import type { Digest } from '../../src/oci/digest.js';
import { bytesOf, compactorOf, NAME, outcome, OTHER, push, pushChunks, read, sha256 } from '../faults/races-scene.js';
import { silent } from '../support/postgres.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import { leaveUpload, leftovers } from './support/leftover.js';
import { keysOf, type Process, removals, StraysScene, sweeperOf } from './support/strays.js';

const MiB = 1024 * 1024;
const BYTES = bytesOf(20 * MiB, 1);

describe('a blob that is written anew as its upload is still listed', function () {
  this.timeout(120_000);
  let ceph: Ceph;
  let strays: StraysScene;
  let rooms: Process;
  let digest: Digest;
  let old: string;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
  });
  beforeEach(async () => {
    strays = await StraysScene.make(ceph);
    rooms = strays.open();
    digest = await push(rooms, BYTES);
    old = await leave(digest);
  });
  afterEach(async () => await strays.dispose());

  /** As if the gateway had died over a blob's first object. @returns its key. */
  async function leave(of: Digest): Promise<string> {
    const [key] = await keysOf(rooms, of);
    if (!key) throw new Error('the blob has no segment');
    await leaveUpload(strays.scene.place, key);
    return key;
  }

  /** Of whom the row is not seen for long. */
  async function takeForDead(): Promise<void> {
    await rooms.database.query(`update replacements set touched_at = now() - interval '1 day'`);
    await abandonedJob(rooms.database, 1_000, 0).run();
    await removals(rooms);
  }

  /** The blob has one object, not the old one, and the bucket nothing else. */
  async function expectNew(): Promise<void> {
    const keys = await keysOf(rooms, digest);
    expect(keys).to.have.length(1).and.not.include(old);
    await strays.expectNothingElse(rooms);
    expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
  }

  it('does not disturb a download that is under way, also if its bytes go at once', async () => {
    const blob = await rooms.registry.blobs.getOpenable(NAME, digest);
    const pieces: Uint8Array[] = [];
    for await (const piece of await blob.open({ start: 5, end: BYTES.length })) {
      if (pieces.length === 0) {
        await sweeperOf(rooms, { readGraceSeconds: 0 }).run();
        await removals(rooms);
        expect(await leftovers(strays.scene.place)).to.deep.equal([]);
      }
      pieces.push(Uint8Array.from(piece));
    }
    expect(Buffer.concat(pieces).equals(BYTES.subarray(5))).to.equal(true);
    await expectNew();
  });

  it('is written by one of two nodes that both hold the job', async () => {
    const nodes = [rooms, strays.open()];
    const sweepers = nodes.map((node) => sweeperOf(node));
    const held = nodes.map((node) => node.pauses.hold('strays:chosen'));
    const runs = sweepers.map((sweeper) => sweeper.run());
    await Promise.all(held.map(({ reached }) => reached));
    for (const { release } of held) release();
    await Promise.all(runs);
    expect(sweepers.flatMap(({ outcomes }) => outcomes)).to.deep.equal(['done']);
    await expectNew();
  });

  it('is not written again by a node that found it before another one wrote it', async () => {
    const late = sweeperOf(strays.open());
    const chosen = strays.open();
    const sweeper = sweeperOf(chosen);
    const held = chosen.pauses.hold('strays:chosen');
    const run = sweeper.run();
    await held.reached;
    await late.run();
    const made = await keysOf(rooms, digest);
    held.release();
    await run;
    expect([late.outcomes, sweeper.outcomes]).to.deep.equal([['done'], []]);
    expect(await keysOf(rooms, digest)).to.deep.equal(made);
    await expectNew();
  });

  it('is left to compaction where that is at it', async () => {
    const chunks = [bytesOf(9 * MiB, 2), bytesOf(8 * MiB, 3)];
    const several = await pushChunks(rooms, chunks);
    await leave(several);
    const compacting = strays.open();
    const compactor = compactorOf(compacting);
    const held = compacting.pauses.hold('compaction:written');
    const run = compactor.run();
    await held.reached;
    const sweeper = sweeperOf(rooms);
    await sweeper.run();
    expect(sweeper.outcomes, 'of the other blob').to.deep.equal(['done']);
    held.release();
    await run;
    expect(compactor.outcomes).to.deep.equal(['done']);
    expect(await keysOf(rooms, several)).to.have.length(1);
    expect(sha256(await read(rooms, several))).to.equal(several);
    await expectNew();
  });

  it('gives way to whoever quarantines it or takes it away, and its key goes then', async () => {
    const held = rooms.pauses.hold('compaction:sealed');
    const sweeper = sweeperOf(rooms);
    const run = sweeper.run();
    await held.reached;
    await rooms.database.query('update blobs set quarantined_at = now()');
    held.release();
    await run;
    expect(sweeper.outcomes).to.deep.equal(['abandoned']);
    await sweeper.run();
    expect(sweeper.outcomes, 'while it is quarantined').to.have.length(1);
    await removals(rooms);
    expect(await leftovers(strays.scene.place)).to.deep.equal([old]);
    await rooms.database.transaction(async (transaction) => {
      await transaction.query('delete from repository_blobs');
      await transaction.query('delete from blobs');
      await transaction.query(
        `with gone as (delete from segments returning key) insert into removals (key, not_before) select key, now() from gone`,
      );
    });
    await strays.expectNothingElse(rooms);
  });

  it('gives way to a commit that put other bytes in the place of quarantined ones', async () => {
    const held = rooms.pauses.hold('compaction:sealed');
    const sweeper = sweeperOf(rooms);
    const run = sweeper.run();
    await held.reached;
    await rooms.database.query('update blobs set quarantined_at = now()');
    await push(rooms, BYTES, OTHER);
    const healed = await keysOf(rooms, digest);
    held.release();
    await run;
    expect(sweeper.outcomes).to.deep.equal(['abandoned']);
    expect(await keysOf(rooms, digest)).to.deep.equal(healed);
    await expectNew();
  });

  for (const point of [
    'compaction:begun',
    'compaction:written',
    's3:completing',
    's3:completed',
    'compaction:sealed',
  ]) {
    it(`by a node that dies, or is taken for dead, at ${point}, is written by the next`, async () => {
      const zombie = strays.open();
      const former = sweeperOf(zombie);
      const held = (point.startsWith('s3:') ? zombie.steps : zombie.pauses).hold(point);
      const run = former.run();
      await held.reached;
      await takeForDead();
      expect(await leftovers(strays.scene.place)).to.include(old);
      expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
      const sweeper = sweeperOf(rooms);
      await sweeper.run();
      expect(sweeper.outcomes).to.deep.equal(['done']);
      const made = await keysOf(rooms, digest);
      held.release();
      await run;
      expect(former.outcomes).not.to.include('done');
      expect(await keysOf(rooms, digest)).to.deep.equal(made);
      await expectNew();
    });
  }

  it('stays as it is, and is reported once, if its bytes are not what the digest says', async () => {
    const bucket = strays.scene.bucket();
    await bucket.put(old, Buffer.alloc(BYTES.length));
    bucket.close();
    const errors: unknown[] = [];
    const log = Object.assign(Object.create(silent) as typeof silent, { error: (facts: object) => errors.push(facts) });
    const sweeper = sweeperOf(rooms, { log });
    for (let time = 0; time < 2; time++) await sweeper.run();
    expect(sweeper.outcomes).to.deep.equal(['damaged']);
    expect(errors).to.have.length(1);
    expect(await keysOf(rooms, digest)).to.deep.equal([old]);
    expect(await leftovers(strays.scene.place)).to.deep.equal([old]);
  });

  it('that can’t be written now is written later, and does not hold up others', async () => {
    const other = await push(rooms, bytesOf(18 * MiB, 6));
    await leave(other);
    const first = [old, ...(await keysOf(rooms, other))].sort()[0];
    let failing = true;
    strays.scene.gateway.fate = ({ operation }) => {
      if (operation !== 'Part' || !failing) return 'pass';
      return { status: 403, code: 'AccessDenied' };
    };
    const sweeper = sweeperOf(rooms);
    const held = rooms.pauses.hold('strays:chosen');
    const second = rooms.pauses.hold('strays:chosen');
    const run = outcome(sweeper.run().then(() => undefined));
    await held.reached;
    held.release();
    await second.reached;
    failing = false;
    second.release();
    expect(await run).to.equal('done');
    expect(sweeper.outcomes).to.deep.equal(['failed', 'done']);
    expect((await leftovers(strays.scene.place)).includes(String(first)), 'the first').to.equal(true);
    await sweeper.run();
    expect(sweeper.outcomes).to.deep.equal(['failed', 'done', 'done']);
    expect(sha256(await read(rooms, other))).to.equal(other);
    await expectNew();
  });
});
