import { appendFile, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { abandonedJob } from '../../src/gc/compaction.js';
import { removalsJob } from '../../src/gc/removals.js';
import type { Digest } from '../../src/oci/digest.js';
import type { SegmentKey } from '../../src/storage/segment-store.js';
import { silent } from '../support/postgres.js';
import { bodyOf, type Rooms, Site } from '../support/rooms.js';
import {
  begin,
  bytesOf,
  compactorOf,
  NAME,
  OTHER,
  outcome,
  push,
  pushChunks,
  read,
  removalRows,
  sha256,
  stillWaits,
} from './races-scene.js';

const MiB = 1024 * 1024;
const CHUNKS = [bytesOf(3 * MiB, 1), bytesOf(2 * MiB, 2), bytesOf(MiB + 1, 3)];
const WHOLE = Buffer.concat(CHUNKS);

describe('the compaction of a blob', () => {
  let site: Site;
  let rooms: Rooms;
  let digest: Digest;

  beforeEach(async () => {
    site = await Site.make();
    rooms = site.open();
    digest = await pushChunks(rooms, CHUNKS);
  });
  afterEach(async () => await site.dispose());

  const wholeObject = async (of = digest) => (await rooms.registry.blobs.getOpenable(NAME, of)).wholeObject;
  const segments = async (of = digest) =>
    await rooms.database.query<{ key: SegmentKey; length: number }>(
      'select s.key, s.length from blobs b join segments s on s.body = b.body where b.digest = $1 order by s.position',
      [of],
    );
  const count = async (table: string) =>
    (await rooms.database.query<{ n: number }>(`select count(*) as n from ${table}`))[0]?.n;
  const removals = () =>
    removalsJob({ ...rooms, log: silent, pause: () => undefined, everyMs: 1_000, delaySeconds: 0, sharePercent: 100 });

  /** As if its maker had not been seen for long. */
  async function sweep(): Promise<void> {
    await rooms.database.query(`update replacements set touched_at = now() - interval '1 day'`);
    await abandonedJob(rooms.database, 1_000, 0).run();
  }

  /** The blob is right, and when all removals are over nothing is there that nothing names. */
  async function expectNothingElse(): Promise<void> {
    expect((await read(rooms, digest)).equals(WHOLE)).to.equal(true);
    for (let time = 0; time < 3; time++) {
      await rooms.database.query('update removals set not_before = now()');
      await removals().run();
    }
    expect(await count('removals')).to.equal(0);
    expect(await count('replacements')).to.equal(0);
    const named = await rooms.database.query<{ key: SegmentKey }>(
      'select s.key from segments s join blobs b on b.body = s.body',
    );
    const held: SegmentKey[] = [];
    for await (const key of rooms.store.list()) held.push(key);
    expect(held.sort()).to.deep.equal(named.map(({ key }) => key).sort());
    expect(await count('segments')).to.equal(named.length);
    const [bodies] = await rooms.database.query<{ loose: number }>(
      `select count(*) as loose from bodies b where not exists (select from blobs where body = b.id)
          and not exists (select from uploads where body = b.id)`,
    );
    expect(bodies?.loose).to.equal(0);
    expect((await read(rooms, digest)).equals(WHOLE)).to.equal(true);
  }

  it('makes one object of several, writes down where it is, and leaves the old ones to their readers', async () => {
    const old = (await segments()).map(({ key }) => key);
    expect(old).to.have.length(3);
    expect(await wholeObject()).to.equal(undefined);
    const compactor = compactorOf(rooms);
    expect(await compactor.run()).to.equal(true);
    expect(await segments()).to.deep.equal([{ key: await wholeObject(), length: WHOLE.length }]);
    const going = await removalRows(rooms);
    expect(going.map(({ key }) => key)).to.deep.equal(old.sort());
    for (const { seconds } of going) expect(seconds).to.be.within(30, 60);
    expect(await rooms.database.query('select kind, digest, repository from records')).to.deep.equal([
      { kind: 'blob', digest, repository: null },
    ]);
    expect(await compactor.run()).to.equal(false);
    expect(await compactor.run()).to.equal(false);
    expect(compactor.outcomes).to.deep.equal(['done']);
    await expectNothingElse();
  });

  it('makes a whole one of a ragged one, of which nothing beyond its length counts', async () => {
    const ragged = await push(rooms, bytesOf(100_000, 4));
    const [segment] = await segments(ragged);
    await appendFile(join(site.root, String(segment?.key)), 'late');
    await rooms.database.query('update segments set object_size = null where key = $1', [segment?.key]);
    expect(await wholeObject(ragged)).to.equal(undefined);
    const compactor = compactorOf(rooms);
    while (await compactor.run());
    expect(compactor.outcomes).to.deep.equal(['done', 'done']);
    expect(await rooms.store.stat((await wholeObject(ragged)) as SegmentKey)).to.deep.equal({ size: 100_000 });
    expect((await read(rooms, ragged)).equals(bytesOf(100_000, 4))).to.equal(true);
    await expectNothingElse();
  });

  it('is not of blobs that are whole, empty, small or quarantined, and not where there is no room', async () => {
    await push(rooms, bytesOf(100_000, 5));
    await push(rooms, Buffer.alloc(0));
    const going = await count('removals');
    const small = compactorOf(rooms, { minBytes: WHOLE.length + 1 });
    const full = compactorOf(rooms, { hasRoom: () => Promise.resolve(false) });
    for (const compactor of [small, full]) while (await compactor.run());
    await rooms.database.query('update blobs set quarantined_at = now() where digest = $1', [digest]);
    expect(await compactorOf(rooms).run()).to.equal(false);
    expect(await segments()).to.have.length(3);
    expect(await count('removals')).to.equal(going);
  });

  it('is given up and reported, once, when the bytes are not what the digest says, or are gone', async () => {
    const [first, second] = await segments();
    const missing = await pushChunks(rooms, [bytesOf(200_000, 6), bytesOf(100_000, 7)]);
    await rm(join(site.root, String((await segments(missing))[1]?.key)));
    const file = await open(join(site.root, String(second?.key)), 'r+');
    await file.write(Buffer.from([255 ^ (CHUNKS[1]?.[7] ?? 0)]), 0, 1, 7);
    await file.close();
    const errors: unknown[] = [];
    const log = Object.assign(Object.create(silent) as typeof silent, { error: (facts: object) => errors.push(facts) });
    const compactor = compactorOf(rooms, { log });
    for (let pass = 0; pass < 3; pass++) while (await compactor.run());
    expect(compactor.outcomes).to.deep.equal(['damaged', 'damaged']);
    expect(errors.map((facts) => (facts as { digest: string }).digest)).to.have.members([digest, missing]);
    expect((await segments())[0]).to.deep.equal(first);
    expect(await segments()).to.have.length(3);
    expect(await removalRows(rooms), 'the new ones alone').to.have.length(2);
    expect(await count('replacements')).to.equal(0);
  });

  it('is one at a time, whoever believes to hold the lock', async () => {
    const other = site.open();
    const [one, two] = [compactorOf(rooms), compactorOf(other)];
    const chosen = [rooms.pauses.hold('compaction:chosen'), other.pauses.hold('compaction:chosen')];
    const begun = [rooms.pauses.hold('compaction:begun'), other.pauses.hold('compaction:begun')];
    const runs = [one.run(), two.run()];
    await Promise.all(chosen.map(({ reached }) => reached));
    for (const { release } of chosen) release();
    await Promise.race(begun.map(({ reached }) => reached));
    expect(await compactorOf(site.open()).run(), 'a third one').to.equal(false);
    for (const { release } of begun) release();
    await Promise.all(runs);
    expect([...one.outcomes, ...two.outcomes]).to.deep.equal(['done']);
    await expectNothingElse();
  });

  for (const point of ['compaction:begun', 'compaction:written', 'compaction:sealed']) {
    for (const [when, first] of [
      ['before', true],
      ['after', false],
    ] as const) {
      it(`that was taken for dead at ${point} swaps nothing when it wakes up ${when} its successor, and leaves nothing`, async () => {
        const zombie = site.open();
        const former = compactorOf(zombie);
        const held = zombie.pauses.hold(point);
        const run = former.run();
        await held.reached;
        // As after a kill there; and what it still writes comes after the removal has looked for the first time.
        await sweep();
        await removals().run();
        const wake = async () => {
          held.release();
          await run;
          expect(former.outcomes).to.deep.equal(['abandoned']);
        };
        if (first) await wake();
        expect(await wholeObject()).to.equal(undefined);
        const compactor = compactorOf(rooms);
        while (await compactor.run());
        expect(compactor.outcomes).to.deep.equal(['done']);
        const made = await wholeObject();
        if (!first) await wake();
        expect(await wholeObject()).to.equal(made);
        await expectNothingElse();
      });
    }
  }

  it('that is seen is not taken for dead', async () => {
    const held = rooms.pauses.hold('compaction:written');
    const compactor = compactorOf(rooms);
    const run = compactor.run();
    await held.reached;
    await abandonedJob(rooms.database, 1_000, 0).run();
    held.release();
    await run;
    expect(compactor.outcomes).to.deep.equal(['done']);
  });

  it('ends when its process stops, and nothing is named by then', async () => {
    const stopping = new AbortController();
    const compactor = compactorOf(rooms, { bytesPerSecond: 1_000_000 });
    const run = compactor.run(stopping.signal);
    expect(await stillWaits(run)).to.equal(true);
    stopping.abort(new Error('stop'));
    expect(await run).to.equal(false);
    expect(compactor.outcomes).to.deep.equal(['abandoned']);
    expect(await segments()).to.have.length(3);
    await expectNothingElse();
  });

  it('gives way to a commit that put other bytes in the place of quarantined ones', async () => {
    const held = rooms.pauses.hold('compaction:sealed');
    const compactor = compactorOf(rooms);
    const run = compactor.run();
    await held.reached;
    await rooms.database.query('update blobs set quarantined_at = now() where digest = $1', [digest]);
    await push(rooms, WHOLE, OTHER);
    const healed = await wholeObject();
    held.release();
    await run;
    expect(compactor.outcomes).to.deep.equal(['abandoned']);
    expect(await wholeObject()).to.equal(healed);
    await expectNothingElse();
  });

  it('gives way to whoever condemns the blob, or takes it away, also while it reads', async () => {
    for (const point of ['compaction:begun', 'compaction:sealed']) {
      const chunks = [bytesOf(200_000, 8), bytesOf(100_000, 9)];
      const going = await pushChunks(rooms, chunks);
      const held = rooms.pauses.hold(point);
      const compactor = compactorOf(rooms, { minBytes: 0 });
      await rooms.database.query('update blobs set quarantined_at = now() where digest = $1', [digest]);
      const run = compactor.run();
      await held.reached;
      for (const { key } of await segments(going)) await rm(join(site.root, key));
      await rooms.database.query(
        `with links as (delete from repository_blobs where digest = $1),
              gone as (delete from blobs where digest = $1 returning body),
              keys as (delete from segments s using gone where s.body = gone.body returning s.key)
         insert into removals (key, not_before) select key, now() from keys`,
        [going],
      );
      held.release();
      await run;
      expect(compactor.outcomes, point).to.deep.equal(['abandoned']);
      await rooms.database.query('update blobs set quarantined_at = null');
    }
    await rooms.database.query(
      'delete from bodies b where not exists (select from blobs where body = b.id) and not exists (select from uploads where body = b.id)',
    );
    await expectNothingElse();
  });

  it('and a commit of the same digest wait for each other, and both end well', async () => {
    const target = await begin(rooms, OTHER);
    const inCommit = rooms.pauses.hold('upload:in-commit');
    const commit = rooms.registry.uploads.finish(target, digest, bodyOf([WHOLE]));
    await inCommit.reached;
    const compactor = compactorOf(rooms);
    const sealed = rooms.pauses.hold('compaction:sealed');
    const run = compactor.run();
    await sealed.reached;
    sealed.release();
    expect(await stillWaits(run)).to.equal(true);
    inCommit.release();
    await Promise.all([commit, run]);
    expect(compactor.outcomes).to.deep.equal(['done']);
    expect((await read(rooms, digest, OTHER)).equals(WHOLE)).to.equal(true);
    await expectNothingElse();
  });

  it('that has not committed yet holds up a commit of the same digest, which then drops its own bytes', async () => {
    const compactor = compactorOf(rooms);
    const inSwap = rooms.pauses.hold('compaction:in-swap');
    const run = compactor.run();
    await inSwap.reached;
    const commit = push(rooms, WHOLE, OTHER);
    expect(await stillWaits(commit)).to.equal(true);
    inSwap.release();
    await Promise.all([commit, run]);
    expect(compactor.outcomes).to.deep.equal(['done']);
    expect(sha256(await read(rooms, digest, OTHER))).to.equal(digest);
    await expectNothingElse();
  });

  it('does not disturb a download that is under way, also if its bytes go at once', async () => {
    const blob = await rooms.registry.blobs.getOpenable(NAME, digest);
    const pieces: Uint8Array[] = [];
    for await (const piece of await blob.open({ start: 5, end: WHOLE.length })) {
      if (pieces.length === 0) {
        await compactorOf(rooms, { readGraceSeconds: 0 }).run();
        await removals().run();
        expect(await count('removals')).to.equal(3);
      }
      pieces.push(Uint8Array.from(piece));
    }
    expect(Buffer.concat(pieces).equals(WHOLE.subarray(5))).to.equal(true);
    await expectNothingElse();
  });

  it('is repeated after a storage that failed, and leaves nothing', async () => {
    const failing = site.open({
      createFile: () => Promise.reject(Object.assign(new Error('no room'), { code: 'ENOSPC' })),
    });
    const compactor = compactorOf(failing);
    expect(await outcome(compactor.run())).to.equal('StorageFull');
    expect(compactor.outcomes).to.deep.equal(['failed']);
    expect(await segments()).to.have.length(3);
    const again = compactorOf(rooms);
    await again.run();
    expect(again.outcomes).to.deep.equal(['done']);
    await expectNothingElse();
  });
});
