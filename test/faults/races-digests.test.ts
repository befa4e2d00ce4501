import { expect } from 'chai';
import { algorithmOf, type Digest, digestOf } from '../../src/oci/digest.js';
import { bodyOf, type Rooms, Site } from '../support/rooms.js';
import { begin, bytesOf, outcome, read, sha256, stall, uploadRow } from './races-scene.js';
import { CountingStore, EagerStore } from './races-stores.js';

/** Each smaller than the one before it, so that none swallows it. */
const CHUNKS = [500_000, 400_000, 300_000, 200_000, 100_000].map((length, index) => bytesOf(length, index));
const WHOLE = Buffer.concat(CHUNKS);

describe('digests of uploads that several processes serve', () => {
  let site: Site;
  let stores: CountingStore[];

  const open = (): Rooms =>
    site.open({
      store: (store) => {
        const counting = new CountingStore(store);
        stores.push(counting);
        return counting;
      },
    });
  const reads = () => stores.flatMap((store) => store.reads);

  beforeEach(async () => {
    site = await Site.make();
    stores = [];
  });
  afterEach(async () => await site.dispose());

  it('at every record the prefix digest is that of exactly the recorded offset', async () => {
    const rooms = site.open({ store: (store) => new EagerStore(store, true), recordBytes: 1 });
    await rooms.database.query('create table seen (size bigint, prefix bigint, algorithm text, digest text)');
    await rooms.database.query(
      `create function see() returns trigger language plpgsql as $$ begin
         if new.prefix_digest is not null then
           insert into seen values (new."offset", new.prefix_size, new.algorithm, new.prefix_digest); end if;
         return new; end $$`,
    );
    await rooms.database.query('create trigger see after update on uploads for each row execute function see()');
    const target = await begin(rooms);
    const [first, second, third, fourth, fifth] = CHUNKS as [Buffer, Buffer, Buffer, Buffer, Buffer];
    await rooms.registry.uploads.append(target, bodyOf([first, second]));
    const broken = stall();
    const ended = outcome(rooms.registry.uploads.append(target, bodyOf([third, fourth, broken.wait])));
    await broken.reached;
    broken.breakOff();
    expect(await ended).to.equal('ClientGone');
    expect(await outcome(rooms.registry.uploads.finish(target, sha256(first), bodyOf([fifth])))).to.equal(
      'DigestInvalid',
    );
    await rooms.registry.uploads.append(target, bodyOf([third, fourth, fifth]));
    const digest = digestOf('sha512', WHOLE);
    await rooms.registry.uploads.finish(target, digest, undefined);

    const seen = await rooms.database.query<{ size: number; prefix: number; algorithm: string; digest: Digest }>(
      'select * from seen',
    );
    expect(seen.length).to.be.greaterThan(8);
    for (const row of seen) {
      expect(row.prefix).to.be.at.most(row.size);
      expect(row.digest).to.equal(digestOf(algorithmOf(row.digest), prefixes(row.prefix)));
    }
    // Only where a body begins before the end of a prefix or goes beyond it do the two differ.
    expect(seen.filter((row) => row.prefix === row.size).length).to.be.greaterThan(seen.length - 4);

    function prefixes(size: number): Buffer {
      return size === first.length + second.length + fifth.length
        ? Buffer.concat([first, second, fifth])
        : WHOLE.subarray(0, size);
    }
  });

  it('a final PUT without a body reads nothing back, in whatever process', async () => {
    const target = await begin(open());
    for (const chunk of CHUNKS) await open().registry.uploads.append(target, bodyOf([chunk]));
    stores.length = 0;
    const last = open();
    await last.registry.uploads.finish(target, sha256(WHOLE), undefined);
    expect(reads()).to.deep.equal([]);
    expect(await read(last, sha256(WHOLE))).to.deep.equal(WHOLE);
  });

  it('a final PUT without a body reads nothing back after a writer that was killed', async () => {
    const killed = site.open({ store: (store) => new EagerStore(store), recordBytes: 1 });
    const target = await begin(killed);
    const client = stall();
    const former = outcome(killed.registry.uploads.append(target, bodyOf([WHOLE, client.wait])));
    await client.reached;
    const rooms = open();
    expect(await rooms.registry.uploads.status(target)).to.equal(WHOLE.length);
    await rooms.registry.uploads.finish(target, sha256(WHOLE), undefined);
    expect(reads()).to.deep.equal([]);
    client.go();
    expect(await former).to.equal('UploadTaken');
    expect(await read(rooms, sha256(WHOLE))).to.deep.equal(WHOLE);
  });

  it('of two processes that take turns one reads each byte of the other at most once, and the other reads nothing', async () => {
    const rooms = [open(), open()];
    const target = await begin(rooms[0] as Rooms);
    for (const [index, chunk] of CHUNKS.entries())
      await rooms[index % 2]?.registry.uploads.append(target, bodyOf([chunk]));
    // One that breaks its word about the length is undone, but what was read for it need not be read again.
    for (let time = 0; time < 2; time++) {
      const wrong = rooms[1]?.registry.uploads.append(target, bodyOf([Buffer.of(1)], { length: 2 }));
      expect(await outcome(wrong ?? Promise.resolve())).to.equal('SizeInvalid');
    }
    await rooms[1]?.registry.uploads.finish(target, sha256(WHOLE), undefined);
    const lengths = stores.map((store) => store.reads.map(({ range }) => range.end - range.start));
    expect(lengths).to.deep.equal([[400_000, 200_000], []]);
  });

  it('a sha512 that was not announced is read back once, and recorded before the answer', async () => {
    const [one, two] = [open(), open()];
    const target = await begin(one);
    for (const chunk of CHUNKS) await one.registry.uploads.append(target, bodyOf([chunk]));
    const digest = digestOf('sha512', WHOLE);
    const held = one.pauses.hold('upload:before-commit');
    const first = one.registry.uploads.finish(target, digest, undefined);
    await held.reached;
    const size = () => reads().reduce((sum, { range }) => sum + range.end - range.start, 0);
    expect(size()).to.equal(WHOLE.length);
    await two.registry.uploads.finish(target, digest, undefined);
    expect(size()).to.equal(WHOLE.length);
    held.release();
    await first;
  });

  it('a digest that a process keeps is not used after other bytes took the place of those it was of', async () => {
    const [one, two] = [open(), open()];
    const [first, second, third] = CHUNKS as [Buffer, Buffer, Buffer];
    const target = await begin(one);
    const broken = stall();
    const ended = outcome(one.registry.uploads.append(target, bodyOf([first, broken.wait])));
    await broken.reached;
    broken.breakOff();
    expect(await ended).to.equal('ClientGone');
    // Never told, so the next one begins at 0, with as many bytes.
    const others = bytesOf(first.length, 77);
    await two.registry.uploads.append(target, bodyOf([others]));
    await one.registry.uploads.append(target, bodyOf([second]));
    await one.registry.uploads.finish(target, sha256(others, second, third), bodyOf([third]));
  });

  it('a kept digest of a request that was ousted does not take the place of its successor’s', async () => {
    const one = open();
    const [first, second] = CHUNKS as [Buffer, Buffer];
    const target = await begin(one);
    const held = one.pauses.hold('upload:recorded');
    const former = outcome(one.registry.uploads.append(target, bodyOf([first])));
    await held.reached;
    await one.registry.uploads.append(target, bodyOf([second], { from: first.length }));
    held.release();
    await former;
    await one.registry.uploads.finish(target, sha256(first, second, first), bodyOf([first]));
    expect(reads()).to.have.length(1);
    expect((await uploadRow(one, target.id))?.body).to.equal(null);
  });

  it('a prefix digest is compared only when the prefix is all there is', async () => {
    const one = open();
    const [first] = CHUNKS as [Buffer];
    const target = await begin(one);
    await one.registry.uploads.append(target, bodyOf([first]));
    const part = sha256(first.subarray(0, 1_000));
    await one.database.query('update uploads set prefix_size = 1000, prefix_digest = $1', [part]);
    expect(await outcome(open().registry.uploads.finish(target, part, undefined))).to.equal('DigestInvalid');
    await open().registry.uploads.finish(target, sha256(first), undefined);
  });
});
