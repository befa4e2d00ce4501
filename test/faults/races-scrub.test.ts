import { cp, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { RegistryError } from '../../src/errors.js';
import { auditChanges } from '../../src/metadata/audit.js';
import type { Digest } from '../../src/oci/digest.js';
import { recordBy } from '../../src/registry/changes.js';
import type { LentBytes, SegmentKey, SegmentRange } from '../../src/storage/segment-store.js';
import { FilesystemStore } from '../../src/storage/filesystem.js';
import { MemoryBudget } from '../../src/storage/memory-budget.js';
import { createLog } from '../../src/log.js';
import { ACTOR, bodyOf, type Rooms, Site } from '../support/rooms.js';
import { CountingStore, PassingStore } from './races-stores.js';
import { begin, bytesOf, compactorOf, NAME, OTHER, outcome, push, pushChunks, read, sha256 } from './races-scene.js';
import { fileOf, harm, isQuarantined, keysOf, pass, record, scrubOf, wait30Days } from './scrub-scene.js';

const BYTES = bytesOf(3_000_000, 1);

describe('the scrub', () => {
  let site: Site;
  let rooms: Rooms;
  let digest: Digest;

  beforeEach(async () => {
    site = await Site.make();
    rooms = site.open({ observers: [recordBy(auditChanges)], inlineMaxBytes: 1_000 });
    digest = await push(rooms, BYTES);
  });
  afterEach(async () => await site.dispose());

  const blobs = () => rooms.registry.blobs;
  /** So that its bytes are in a row. */
  async function pushSmall(bytes: Buffer): Promise<Digest> {
    const small = sha256(bytes);
    await rooms.registry.uploads.finish(await begin(rooms), small, bodyOf([bytes], { length: bytes.length }));
    return small;
  }
  const passRows = async () =>
    await rooms.database.query<{ blobs: number; bytes: number; faults: number; unread: number; finished: boolean }>(
      'select blobs, bytes, faults, unread, finished_at is not null as finished from scrubs order by id',
    );

  it('reads and hashes every blob once, writes the pass down, and begins the next only when it is due', async () => {
    await pushChunks(rooms, [bytesOf(300_000, 2), bytesOf(200_000, 3)]);
    await pushSmall(bytesOf(100, 4));
    await push(rooms, Buffer.alloc(0));
    const idle = scrubOf(rooms);
    expect(await idle.job.run()).to.equal(false);
    expect(idle.told.looked, 'a fresh registry').to.equal(0);
    const { told } = await pass(rooms);
    expect(told.faults).to.deep.equal([]);
    expect([told.looked, told.read]).to.deep.equal([4, 3_500_100]);
    expect(await passRows()).to.deep.equal([{ blobs: 4, bytes: 3_500_100, faults: 0, unread: 0, finished: true }]);
    const next = scrubOf(rooms);
    while (await next.job.run());
    expect(next.told.looked).to.equal(0);
  });

  for (const [name, kind, deep] of [
    ['flip', 'digest', true],
    ['truncate', 'short', true],
    ['truncate', 'short', false],
    ['remove', 'missing', true],
    ['remove', 'missing', false],
  ] as const)
    it(`quarantines a blob after ${name}${deep ? '' : ', without reading'}, says so, and a push heals it`, async () => {
      const well = await push(rooms, bytesOf(50_000, 7));
      const lines: string[] = [];
      const file = await fileOf(site, rooms, digest);
      await harm[name](file);
      const scrub = scrubOf(rooms, { deep, log: createLog('error', { write: (line: string) => lines.push(line) }) });
      expect((await scrub.scrubber.step('', new AbortController().signal)).counts).to.include({ blobs: 2, faults: 1 });
      expect(scrub.kinds()).to.deep.equal([kind]);
      expect(lines.join('')).to.include(digest).and.include('quarantined');
      if (kind !== 'digest')
        expect(file).to.satisfy((path: string) => path.endsWith(JSON.parse(lines[0] ?? '').object));
      expect(await isQuarantined(rooms, digest)).to.equal(true);
      expect(await isQuarantined(rooms, well)).to.equal(false);
      expect(await outcome(blobs().getOpenable(NAME, digest))).to.equal('BlobDamaged');
      expect(await outcome(blobs().get(NAME, digest))).to.equal('BlobUnknown');
      expect(await blobs().mount(OTHER, digest, NAME, () => true, ACTOR)).to.equal(undefined);
      const [entry, ...others] = await record(rooms);
      expect(others).to.deep.equal([]);
      expect(entry).to.deep.include({ actor: 'scrub', action: 'blob.quarantine', resource: digest });
      expect(entry?.details).to.deep.include({ size: BYTES.length, repositories: [NAME] });
      expect(entry?.details.fault).to.include({ kind });

      await push(rooms, BYTES);
      expect(await isQuarantined(rooms, digest)).to.equal(false);
      expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
      expect((await record(rooms)).at(-1)).to.deep.include({
        actor: ACTOR.key,
        action: 'blob.heal',
        details: { digest, size: BYTES.length, source: 'push' },
      });
      expect((await pass(rooms)).told.faults).to.deep.equal([]);
    });

  it('does not see a changed byte where it does not read', async () => {
    await harm.flip(await fileOf(site, rooms, digest));
    const { told, scrubber } = scrubOf(rooms, { deep: false });
    await scrubber.step('', new AbortController().signal);
    expect(told.faults).to.deep.equal([]);
  });

  it('finds the damaged one of several segments, and rows that do not sum up', async () => {
    const chunked = await pushChunks(rooms, [bytesOf(300_000, 2), bytesOf(200_000, 3), bytesOf(100_000, 4)]);
    const [, second] = await keysOf(rooms, chunked);
    await harm.truncate(join(site.root, String(second)));
    await rooms.database.query('update blobs set size = size + 1 where digest = $1', [digest]);
    const { told } = await pass(rooms);
    const damage = new Map(told.faults.map((fault) => [fault.digest, fault.damage]));
    expect(damage.get(chunked)).to.deep.equal({ kind: 'short', key: second, wanted: 200_000, found: 199_999 });
    expect(damage.get(digest)).to.deep.equal({ kind: 'rows', wanted: BYTES.length + 1, found: BYTES.length });
  });

  it('finds wrong bytes in a row, which a push puts right', async () => {
    const small = await pushSmall(bytesOf(100, 4));
    await rooms.database.query(
      'update segments set bytes = set_byte(bytes, 50, 255 - get_byte(bytes, 50)) where bytes is not null',
    );
    expect((await pass(rooms)).kinds()).to.deep.equal(['digest']);
    expect(await outcome(blobs().getOpenable(NAME, small))).to.equal('BlobDamaged');
    await pushSmall(bytesOf(100, 4));
    expect((await read(rooms, small)).equals(bytesOf(100, 4))).to.equal(true);
  });

  it('takes a longer object for ragged: it is served by the registry alone, and rightly', async () => {
    await harm.lengthen(await fileOf(site, rooms, digest));
    expect((await blobs().getOpenable(NAME, digest)).wholeObject).not.to.equal(undefined);
    expect((await pass(rooms)).told.faults).to.deep.equal([]);
    expect((await blobs().getOpenable(NAME, digest)).wholeObject).to.equal(undefined);
    expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
    const compactor = compactorOf(rooms);
    while (await compactor.run());
    expect(compactor.outcomes).to.deep.equal(['done']);
    expect((await blobs().getOpenable(NAME, digest)).wholeObject).not.to.equal(undefined);
  });

  it('finds a manifest whose payload is another', async () => {
    await rooms.database.query(
      `insert into manifests (repository, digest, media_type, size, payload)
       select id, 'sha256:' || encode(sha256(n::text::bytea), 'hex'), 'a/b', 1, case n when 77 then 'x'::bytea else n::text::bytea end
         from repositories, generate_series(1, 250) n`,
    );
    await pass(rooms);
    expect(await passRows()).to.deep.equal([{ blobs: 1, bytes: BYTES.length, faults: 1, unread: 0, finished: true }]);
  });

  describe('at a store that', () => {
    class FailingStore extends CountingStore {
      fail: (key: SegmentKey, open: number) => boolean = () => false;
      override open(key: SegmentKey, range: SegmentRange): Promise<LentBytes> {
        if (this.fail(key, this.reads.length))
          return Promise.reject(new RegistryError('Unavailable', 'EIO', { cause: new Error('EIO') }));
        return super.open(key, range);
      }
    }

    beforeEach(async () => {
      for (let seed = 10; seed < 16; seed++) await push(rooms, bytesOf(20_000, seed));
      await wait30Days(rooms);
    });

    it('goes away in the middle quarantines nothing, and goes on where it was', async () => {
      const away = `${site.root}.away`;
      const store = new FailingStore(rooms.store);
      // Unmounted: there is an empty folder.
      const stop = rooms.pauses.hold('scrub:suspected');
      const [, , third] = await rooms.database.query<{ digest: Digest }>('select digest from blobs order by digest');
      await harm.remove(await fileOf(site, rooms, third?.digest ?? digest));
      const scrub = scrubOf({ ...rooms, store });
      const run = outcome(scrub.job.run());
      await stop.reached;
      await rename(site.root, away);
      stop.release();
      expect(await run).to.equal('Unavailable');
      for (let time = 0; time < 5; time++) expect(await outcome(scrub.job.run())).to.equal('Unavailable');
      expect(await passRows()).to.deep.equal([
        { blobs: 2, bytes: (await passRows())[0]?.bytes, faults: 0, unread: 0, finished: false },
      ]);
      expect(await rooms.database.query('select from blobs where quarantined_at is not null')).to.have.length(0);
      await rename(away, site.root);
      while (await scrub.job.run());
      expect(scrub.told.looked).to.equal(7);
      expect(scrub.kinds()).to.deep.equal(['missing']);
      const gone = (await keysOf(rooms, third?.digest ?? digest))[0];
      const keys = store.reads.map(({ key }) => key).filter((key) => key !== gone);
      expect(keys, 'none is read twice').to.have.length(6);
    });

    it('fails once quarantines nothing', async () => {
      const store = new FailingStore(rooms.store);
      let failed = false;
      store.fail = (_key, opened) => {
        if (failed || opened !== 3) return false;
        failed = true;
        return true;
      };
      const scrub = scrubOf({ ...rooms, store });
      expect(await outcome(scrub.job.run())).to.equal('Unavailable');
      while (await scrub.job.run());
      expect(scrub.told).to.deep.include({ looked: 7, faults: [], unread: [] });
    });

    it('can not read one blob, whatever it tries, is passed over there and goes on', async () => {
      const store = new FailingStore(rooms.store);
      const [bad] = await keysOf(rooms, digest);
      store.fail = (key) => key === bad;
      const scrub = scrubOf({ ...rooms, store });
      for (let time = 0; time < 2; time++) expect(await outcome(scrub.job.run())).to.equal('Unavailable');
      while (await scrub.job.run());
      expect(scrub.told).to.deep.include({ looked: 6, faults: [], unread: [digest] });
      expect((await passRows())[0]).to.include({ blobs: 7, faults: 0, unread: 1, finished: true });
      expect(await isQuarantined(rooms, digest)).to.equal(false);
    });

    it('gives out another byte once quarantines nothing', async () => {
      class OnceWrongStore extends CountingStore {
        override async open(key: SegmentKey, range: SegmentRange): Promise<LentBytes> {
          const isFirst = this.reads.length === 0;
          const bytes = await super.open(key, range);
          if (!isFirst) return bytes;
          const next = async (): Promise<IteratorResult<Uint8Array, undefined>> => {
            const piece = await bytes.next();
            return piece.done ? piece : { done: false, value: piece.value.map((byte) => byte ^ 1) };
          };
          return {
            next,
            return: () => bytes.return(),
            [Symbol.asyncIterator]: () => ({ ...bytes, next }),
          } as LentBytes;
        }
      }
      const store = new OnceWrongStore(rooms.store);
      const scrub = scrubOf({ ...rooms, store });
      while (await scrub.job.run());
      expect(scrub.told).to.deep.include({ looked: 7, faults: [] });
      expect(store.reads).to.have.length(8);
    });

    it('shows a file shorter at first quarantines nothing', async () => {
      class StaleStore extends PassingStore {
        override async stat(key: SegmentKey): Promise<{ size: number } | undefined> {
          const there = await super.stat(key);
          return there && { size: there.size - 1 };
        }
      }
      const scrub = scrubOf({ ...rooms, store: new StaleStore(rooms.store) });
      while (await scrub.job.run());
      expect(scrub.told).to.deep.include({ looked: 7, faults: [] });
    });
  });

  describe('that two run, or one that was killed', () => {
    beforeEach(async () => {
      for (let seed = 100; seed < 340; seed++) await push(rooms, bytesOf(1_100, seed));
      await wait30Days(rooms);
    });

    it('goes on where it was: a batch at most is read twice', async () => {
      const killed = scrubOf(rooms);
      await killed.job.run();
      // The second batch is read, and nothing is written down of it.
      const [row] = await rooms.database.query<{ at: Digest }>('select last_digest as at from scrubs');
      await killed.scrubber.step(row?.at ?? '', new AbortController().signal);
      const next = scrubOf(rooms);
      while (await next.job.run());
      expect([killed.told.looked, next.told.looked]).to.deep.equal([200, 141]);
      expect((await passRows())[0]).to.include({ blobs: 241, finished: true });
    });

    it('counts each blob once, and quarantines once', async () => {
      const [last] = await rooms.database.query<{ digest: Digest }>('select max(digest) as digest from blobs');
      await harm.remove(await fileOf(site, rooms, last?.digest ?? digest));
      const other = site.open();
      const scrubs = [scrubOf(rooms), scrubOf(other)];
      await Promise.all(
        scrubs.map(async ({ job }) => {
          while (await job.run());
          while (await job.run());
        }),
      );
      expect((await passRows()).at(-1)).to.include({ blobs: 241, finished: true });
      expect((await record(rooms)).map(({ action }) => action)).to.deep.equal(['blob.quarantine']);
    });
  });

  describe('and what happens meanwhile', () => {
    const RACES: readonly [string, () => Promise<unknown>][] = [
      [
        'was pushed again after another had quarantined it',
        async () => {
          await rooms.database.query('update blobs set quarantined_at = now()');
          await push(rooms, BYTES);
        },
      ],
      [
        'was removed',
        async () => {
          await rooms.database.query('delete from repository_blobs');
          await rooms.database.query('delete from blobs');
        },
      ],
    ];
    for (const point of ['scrub:suspected', 'scrub:confirmed'])
      for (const [name, change] of RACES)
        it(`leaves a blob alone that ${name} (${point})`, async () => {
          await harm.flip(await fileOf(site, rooms, digest));
          await wait30Days(rooms);
          const scrub = scrubOf(rooms);
          const stop = rooms.pauses.hold(point);
          const run = scrub.job.run();
          await stop.reached;
          await change();
          stop.release();
          await run;
          expect(scrub.told.faults).to.deep.equal([]);
          expect((await record(rooms)).map(({ action }) => action)).not.to.include('blob.quarantine');
          expect(await isQuarantined(rooms, digest)).to.equal(false);
        });

    it('leaves a blob alone that was compacted', async () => {
      const chunked = await pushChunks(rooms, [bytesOf(300_000, 2), bytesOf(200_000, 3)]);
      const [first] = await keysOf(rooms, chunked);
      // It is read before, and found damaged after: what it would look like with a short grace of readers.
      const compactor = compactorOf(rooms);
      const stop = rooms.pauses.hold('scrub:suspected');
      class GoneStore extends PassingStore {
        override async stat(key: SegmentKey): Promise<{ size: number } | undefined> {
          return key === first ? undefined : await super.stat(key);
        }
        override open(key: SegmentKey, range: SegmentRange): Promise<LentBytes> {
          if (key === first) return Promise.reject(new RegistryError('BlobDamaged', 'gone'));
          return super.open(key, range);
        }
      }
      await wait30Days(rooms);
      const scrub = scrubOf({ ...rooms, store: new GoneStore(rooms.store) });
      const run = scrub.job.run();
      await stop.reached;
      while (await compactor.run());
      stop.release();
      await run;
      expect(scrub.told.faults).to.deep.equal([]);
      expect((await read(rooms, chunked)).length).to.equal(500_000);
    });

    it('a reader elsewhere that remembers the blob sees the quarantine once it is told', async () => {
      const other = site.open();
      await harm.flip(await fileOf(site, rooms, digest));
      await wait30Days(rooms);
      const scrub = scrubOf(rooms);
      const stop = rooms.pauses.hold('scrub:in-quarantine');
      const run = scrub.job.run();
      await stop.reached;
      expect(await outcome(other.registry.blobs.getOpenable(NAME, digest))).to.equal('done');
      expect(await outcome(other.registry.blobs.get(NAME, digest))).to.equal('done');
      stop.release();
      await run;
      expect(await outcome(other.registry.blobs.getOpenable(NAME, digest))).to.equal('BlobDamaged');
      expect(await outcome(other.registry.blobs.get(NAME, digest))).to.equal('BlobUnknown');
    });

    it('a push that commits during the quarantine waits for it, and heals', async () => {
      await harm.flip(await fileOf(site, rooms, digest));
      await wait30Days(rooms);
      const stop = rooms.pauses.hold('scrub:in-quarantine');
      const run = scrubOf(rooms).job.run();
      await stop.reached;
      const pushed = push(site.open(), BYTES);
      stop.release();
      await Promise.all([run, pushed]);
      expect(await isQuarantined(rooms, digest)).to.equal(false);
      expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
    });
  });

  describe('with a second store', () => {
    let copy: string;
    let second: FilesystemStore;

    beforeEach(async () => {
      copy = join(site.folder, 'copy');
      await cp(site.root, copy, { recursive: true });
      second = new FilesystemStore({ root: copy, budget: new MemoryBudget(0), downloadMemory: 1024 * 1024 });
    });

    it('heals what it finds, as one object under a new key, and says where from', async () => {
      const chunked = await pushChunks(rooms, [bytesOf(300_000, 2), bytesOf(200_000, 3)]);
      await cp(site.root, copy, { recursive: true });
      const before = await keysOf(rooms, chunked);
      for (const key of before) await harm.remove(join(site.root, key));
      await harm.flip(await fileOf(site, rooms, digest));
      const { told } = await pass(rooms, { second });
      expect(told.healed).to.deep.equal(['second-store', 'second-store']);
      expect(told.faults.map(({ healed }) => healed)).to.deep.equal([true, true]);
      for (const [of, wanted] of [
        [digest, BYTES],
        [chunked, Buffer.concat([bytesOf(300_000, 2), bytesOf(200_000, 3)])],
      ] as const) {
        expect((await read(rooms, of)).equals(wanted)).to.equal(true);
        expect(await isQuarantined(rooms, of)).to.equal(false);
      }
      expect(await keysOf(rooms, chunked))
        .to.have.length(1)
        .and.not.include(before[0]);
      expect(
        (await record(rooms)).filter(({ action }) => action === 'blob.heal').map(({ details }) => details.source),
      ).to.deep.equal(['second-store', 'second-store']);
      expect((await pass(rooms)).told.faults).to.deep.equal([]);
    });

    it('takes nothing that is wrong there, too, and leaves no object behind', async () => {
      await harm.flip(await fileOf(site, rooms, digest));
      const [key] = await keysOf(rooms, digest);
      await harm.truncate(join(copy, String(key)));
      expect((await pass(rooms, { second })).told).to.deep.include({ healed: [] });
      await harm.overwrite(join(copy, String(key)), bytesOf(BYTES.length, 99));
      expect((await pass(rooms, { second })).told).to.deep.include({ healed: [] });
      expect(await isQuarantined(rooms, digest)).to.equal(true);
      expect(await keysOf(rooms, digest)).to.deep.equal([key]);
      expect(await rooms.database.query('select from replacements')).to.have.length(0);
      expect(await outcome(blobs().getOpenable(NAME, digest))).to.equal('BlobDamaged');
    });

    it('heals later what it could not when it was away', async () => {
      await rename(copy, `${copy}.away`);
      await harm.remove(await fileOf(site, rooms, digest));
      expect((await pass(rooms, { second })).told.faults.map(({ healed }) => healed)).to.deep.equal([false]);
      await rename(`${copy}.away`, copy);
      const { told } = await pass(rooms, { second });
      expect(told.faults.map(({ healed, isNew }) => [healed, isNew])).to.deep.equal([[true, false]]);
      expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
    });

    it('gives way to a push that heals first', async () => {
      await harm.flip(await fileOf(site, rooms, digest));
      await wait30Days(rooms);
      const scrub = scrubOf(rooms, { second });
      const stop = rooms.pauses.hold('compaction:sealed');
      const run = scrub.job.run();
      await stop.reached;
      await push(rooms, BYTES);
      stop.release();
      await run;
      expect(scrub.told.healed).to.deep.equal([]);
      expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
      expect((await record(rooms)).map(({ action, details }) => details.source ?? action)).to.deep.equal([
        'blob.quarantine',
        'push',
      ]);
    });
  });

  it('puts a blob to use again whose file was restored', async () => {
    const path = await fileOf(site, rooms, digest);
    await rename(path, `${path}.lost`);
    await pass(rooms);
    expect(await isQuarantined(rooms, digest)).to.equal(true);
    expect((await pass(rooms)).told.faults.map(({ healed }) => healed)).to.deep.equal([false]);
    await rename(`${path}.lost`, path);
    expect((await pass(rooms, { deep: false })).told.healed).to.deep.equal(['restored']);
    expect((await read(rooms, digest)).equals(BYTES)).to.equal(true);
  });

  it('keeps its pace, in bytes and in objects', async () => {
    for (let seed = 10; seed < 15; seed++) await push(rooms, bytesOf(2_000, seed));
    const free = await pass(rooms);
    expect([free.bytes.waits, free.objects.waits]).to.deep.equal([0, 0]);
    const slow = await pass(rooms, { bytesPerSecond: 30e6, objectsPerSecond: 100 });
    // 3 MB in pieces of at most 1 MiB, and six files.
    expect(slow.bytes.waits).to.be.within(3, 20);
    expect(slow.objects.waits).to.be.within(3, 6);
  });

  it('ends at once when the process stops, and has written down what it did', async () => {
    await wait30Days(rooms);
    const stop = new AbortController();
    const slow = scrubOf(rooms, { bytesPerSecond: 1_000 });
    const run = slow.job.run(stop.signal);
    setTimeout(() => stop.abort(new Error('it stops')), 50);
    expect(await run).to.equal(false);
    expect((await passRows())[0]).to.include({ blobs: 0, finished: false });
  });
});
