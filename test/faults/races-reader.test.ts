import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { type Rooms, Site } from '../support/rooms.js';
import { bytesOf, compactorOf, NAME, outcome, pushChunks, read, sha256 } from './races-scene.js';
import { until } from './support/processes.js';

const MiB = 1024 * 1024;

describe('a reader of a blob whose bytes move', () => {
  let site: Site;
  const FIRST = bytesOf(3 * MiB, 1);
  const SECOND = bytesOf(2 * MiB, 2);
  const WHOLE = Buffer.concat([FIRST, SECOND]);
  const DIGEST = sha256(WHOLE);
  let rooms: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    rooms = site.open();
    await pushChunks(rooms, [FIRST, SECOND]);
  });

  afterEach(async () => await site.dispose());

  /** A new body of one segment takes the place of the old one, whose files go at once. */
  async function compact(): Promise<void> {
    const old = await rooms.database.query<{ key: string }>('select key from segments');
    const compactor = compactorOf(rooms);
    await compactor.run();
    expect(compactor.outcomes).to.deep.equal(['done']);
    for (const { key } of old) await rm(join(site.root, key));
  }

  it('finds the bytes where they are now when their keys went before it opened them', async () => {
    const held = rooms.pauses.hold('blob:before-open');
    const bytes = read(rooms, DIGEST);
    await held.reached;
    await compact();
    held.release();
    expect(await bytes).to.deep.equal(WHOLE);
  });

  it('goes on at its offset when a key goes between two segments', async () => {
    const blob = await rooms.registry.blobs.getOpenable(NAME, DIGEST);
    const range = { start: 1_000, end: WHOLE.length - 1_000 };
    const pieces: Uint8Array[] = [];
    for await (const piece of await blob.open(range)) {
      if (pieces.length === 0) await compact();
      pieces.push(Uint8Array.from(piece));
    }
    expect(Buffer.concat(pieces)).to.deep.equal(WHOLE.subarray(range.start, range.end));
  });

  it('learns before the first byte that a segment is truly missing, and later by a broken stream', async () => {
    const [first, second] = await rooms.database.query<{ key: string }>('select key from segments order by position');
    await rm(join(site.root, second?.key ?? ''));
    const blob = await rooms.registry.blobs.getOpenable(NAME, DIGEST);
    const bytes = await blob.open({ start: 0, end: WHOLE.length });
    let size = 0;
    const all = async () => {
      for await (const piece of bytes) size += piece.length;
    };
    expect(await outcome(all())).to.equal('BlobDamaged');
    expect(size).to.equal(FIRST.length);
    await rm(join(site.root, first?.key ?? ''));
    expect(await outcome(blob.open({ start: 0, end: 10 }))).to.equal('BlobDamaged');
  });

  it('lets the file go when it leaves at the first piece', async () => {
    const blob = await rooms.registry.blobs.getOpenable(NAME, DIGEST);
    const range = { start: 0, end: WHOLE.length };
    // As a part of several ranges is read, and as one range is.
    async function* part(): AsyncGenerator<Uint8Array> {
      yield* await blob.open(range);
    }
    for await (const piece of part()) {
      expect(piece.length).to.be.greaterThan(0);
      expect(rooms.store.readAheadBytes).to.be.greaterThan(0);
      break;
    }
    await until('the file is closed', () => rooms.store.readAheadBytes === 0);
    await (await blob.open(range))[Symbol.asyncDispose]();
    await until('the other is closed', () => rooms.store.readAheadBytes === 0);
  });

  it('is told that the storage does not answer when it hangs before the first byte', async () => {
    const hanging = site.open({
      store: (store) =>
        new Proxy(store, {
          get: (target, name) => {
            if (name === 'open') return () => new Promise<never>(() => undefined);
            const value: unknown = Reflect.get(target, name, target);
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          },
        }),
    });
    expect(await outcome(read(hanging, DIGEST))).to.equal('Unavailable');
  });
});
