import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { AppendFile, CreateFile } from '../../src/storage/durable-file.js';
import { ACTOR, bodyOf, type Rooms, Site } from '../support/rooms.js';
import {
  begin,
  bytesOf,
  NAME,
  outcome,
  push,
  read,
  removalRows,
  segmentRows,
  sha256,
  stall,
  uploadRow,
} from './races-scene.js';
import { EagerStore } from './races-stores.js';

const MiB = 1024 * 1024;

/** Files of which one operation goes wrong. */
function failing(operation: 'writev' | 'datasync', code: string, from: number): CreateFile {
  let count = 0;
  return async (path) => {
    const file = await open(path, 'wx');
    const fails = () => {
      count += 1;
      if (count > from) throw Object.assign(new Error(`injected ${code}`), { code });
    };
    const wrapped: AppendFile = {
      write: ((...all: Parameters<AppendFile['write']>) => file.write(...all)) as AppendFile['write'],
      close: () => file.close(),
      writev: async (buffers, position) => {
        if (operation === 'writev') fails();
        return await file.writev(buffers, position);
      },
      datasync: async () => {
        if (operation === 'datasync') fails();
        await file.datasync();
      },
    };
    return wrapped;
  };
}

/** Files whose writes begin late: what they are to write must not have changed by then. */
const late: CreateFile = async (path) => {
  const file = await open(path, 'wx');
  return {
    write: ((...all: Parameters<AppendFile['write']>) => file.write(...all)) as AppendFile['write'],
    close: () => file.close(),
    datasync: () => file.datasync(),
    writev: async (buffers, position) => {
      await sleep(100);
      return await file.writev(buffers, position);
    },
  };
};

describe('uploads on a store that fails or changes', () => {
  let site: Site;

  beforeEach(async () => {
    site = await Site.make();
  });
  afterEach(async () => await site.dispose());

  for (const [operation, code, failure] of [
    ['datasync', 'EIO', 'Unavailable'],
    ['writev', 'EIO', 'Unavailable'],
    ['writev', 'ENOSPC', 'StorageFull'],
  ] as const) {
    it(`a ${operation} that fails with ${code} is never followed by success, and the session goes on elsewhere`, async () => {
      const bad = site.open({ createFile: failing(operation, code, 0) });
      const good = site.open();
      const bytes = bytesOf(100_000);
      const target = await begin(bad);
      expect(await outcome(bad.registry.uploads.append(target, bodyOf([bytes])))).to.equal(failure);
      expect(await outcome(bad.registry.uploads.finish(target, sha256(bytes), bodyOf([bytes])))).to.equal(failure);
      expect(await uploadRow(good, target.id)).to.include({ offset: 0, told: 0 });
      expect(await outcome(good.registry.blobs.get(NAME, sha256(bytes)))).to.equal('BlobUnknown');
      await good.registry.uploads.finish(target, sha256(bytes), bodyOf([bytes]));
      expect(await read(good, sha256(bytes))).to.deep.equal(bytes);
    });
  }

  it('that fail under an ousted writer answer that it was ousted, and otherwise that they fail', async () => {
    for (const taken of [true, false]) {
      const client = stall();
      const bad = site.open({ createFile: failing('writev', 'EIO', 0) });
      const good = site.open();
      const target = await begin(bad);
      const former = outcome(bad.registry.uploads.append(target, bodyOf([client.wait, bytesOf(100_000)])));
      await client.reached;
      if (taken) await good.registry.uploads.append(target, bodyOf([bytesOf(10)], { from: 0 }));
      client.go();
      expect(await former).to.equal(taken ? 'UploadTaken' : 'Unavailable');
    }
  });

  it('that writes late copies what is swallowed as it was read', async () => {
    const rooms = site.open({ createFile: late });
    const bytes = bytesOf(6 * MiB);
    const target = await begin(rooms);
    for (const from of [0, 3 * MiB])
      await rooms.registry.uploads.append(
        target,
        bodyOf([bytes.subarray(from, from + 3 * MiB)], { from, length: 3 * MiB }),
      );
    expect(await segmentRows(rooms, target.id)).to.have.length(1);
    await rooms.registry.uploads.finish(target, sha256(bytes), undefined);
    expect((await read(rooms, sha256(bytes))).equals(bytes)).to.equal(true);
  });

  it('after a failed sync a segment counts as far as earlier syncs had vouched for it', async () => {
    const bad = site.open({ createFile: failing('datasync', 'EIO', 1) });
    const good = site.open();
    const bytes = bytesOf(40 * MiB);
    const target = await begin(bad);
    expect(await outcome(bad.registry.uploads.append(target, bodyOf(pieces(bytes))))).to.equal('Unavailable');
    const offset = await good.registry.uploads.status(target);
    expect(offset).to.equal(16 * MiB);
    await good.registry.uploads.finish(target, sha256(bytes), bodyOf(pieces(bytes.subarray(offset)), { from: offset }));
    expect(await read(good, sha256(bytes))).to.deep.equal(bytes);
  });

  function pieces(bytes: Buffer): Buffer[] {
    return Array.from({ length: Math.ceil(bytes.length / MiB) }, (_, index) =>
      bytes.subarray(index * MiB, (index + 1) * MiB),
    );
  }

  it('what is durable is recorded within seconds, though its client says nothing more', async function () {
    this.timeout(60_000);
    const rooms = site.open();
    const target = await begin(rooms);
    const client = stall();
    // The first window is reported too early to be due; the rest makes no window of its own until the clock does.
    const writer = rooms.registry.uploads.append(target, bodyOf([...pieces(bytesOf(17 * MiB)), client.wait]));
    await client.reached;
    const start = performance.now();
    let offset = 0;
    while (offset < 17 * MiB && performance.now() - start < 20_000) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      offset = (await uploadRow(rooms, target.id))?.offset ?? 0;
    }
    expect(offset).to.equal(17 * MiB);
    client.go();
    await writer;
  });

  describe('segments that are swallowed', () => {
    let one: Rooms;
    let two: Rooms;

    beforeEach(() => {
      one = site.open({ store: (store) => new EagerStore(store), recordBytes: 1 });
      two = site.open({ store: (store) => new EagerStore(store), recordBytes: 1 });
    });

    const SMALL = [bytesOf(1_000, 1), bytesOf(500, 2)] as const;
    const MORE = bytesOf(3_000, 3);

    it('chunks of one byte make a blob of few segments', async () => {
      const bytes = bytesOf(150);
      const target = await begin(one);
      for (const [at, byte] of bytes.entries())
        await [one, two][at % 2]?.registry.uploads.append(target, bodyOf([Buffer.of(byte)], { from: at }));
      await one.registry.uploads.finish(target, sha256(bytes), undefined);
      expect(await read(two, sha256(bytes))).to.deep.equal(bytes);
      expect(await segmentRows(one, target.id)).to.have.length(1);
      expect(await removalRows(one, target.id)).to.have.length(149);
    });

    it('keep their places until the one that swallows them is durable beyond them', async () => {
      const target = await begin(one);
      await one.registry.uploads.append(target, bodyOf([SMALL[0]]));
      const client = stall();
      // Its copy is a durable window already when its client begins to send, and the process is killed there.
      void outcome(one.registry.uploads.append(target, bodyOf([client.wait, MORE], { length: MORE.length })));
      await client.reached;
      const rows = await segmentRows(two, target.id);
      expect(rows.map(({ position, length }) => [position === null, length])).to.deep.equal([
        [false, SMALL[0].length],
        [true, 0],
      ]);
      expect(await uploadRow(two, target.id)).to.include({ offset: SMALL[0].length });
      await two.registry.uploads.append(target, bodyOf([SMALL[1]]));
      await two.registry.uploads.finish(target, sha256(...SMALL), undefined);
      expect(await read(two, sha256(...SMALL))).to.deep.equal(Buffer.concat(SMALL));
      client.go();
    });

    it('go to the removals in the record that gives the new one their place', async () => {
      const target = await begin(one);
      await one.registry.uploads.append(target, bodyOf([SMALL[0]]));
      const [old] = await segmentRows(one, target.id);
      const client = stall();
      const writer = outcome(one.registry.uploads.append(target, bodyOf([SMALL[1], client.wait, MORE])));
      await client.reached;
      const rows = await segmentRows(two, target.id);
      expect(rows).to.have.length(1);
      expect(rows[0]).to.include({ length: 1_500, objectSize: null });
      expect((await removalRows(two, target.id)).map(({ key }) => key)).to.deep.equal([old?.key]);
      // A successor goes on from there as if the bytes had always been in this one.
      await two.registry.uploads.finish(target, sha256(...SMALL, MORE), bodyOf([MORE], { from: 1_500 }));
      client.go();
      expect(await writer).to.equal('UploadTaken');
      expect(await read(two, sha256(...SMALL, MORE))).to.deep.equal(Buffer.concat([...SMALL, MORE]));
    });

    it('stay the session’s bytes when the request that swallowed them turns out wrong', async () => {
      const target = await begin(one);
      await one.registry.uploads.append(target, bodyOf([SMALL[0]]));
      const wrong = one.registry.uploads.finish(target, sha256(MORE), bodyOf([SMALL[1], MORE]));
      expect(await outcome(wrong)).to.equal('DigestInvalid');
      expect(await uploadRow(one, target.id)).to.include({ offset: 1_000, told: 1_000, prefixSize: 1_000 });
      const rows = await segmentRows(one, target.id);
      expect(rows.map(({ length }) => length)).to.deep.equal([1_000]);
      await two.registry.uploads.finish(target, sha256(SMALL[0], MORE), bodyOf([MORE]));
      expect(await read(one, sha256(SMALL[0], MORE))).to.deep.equal(Buffer.concat([SMALL[0], MORE]));
    });

    it('do not look damaged to a request that was ousted while it read them', async () => {
      const target = await begin(one);
      await one.registry.uploads.append(target, bodyOf([SMALL[0]]));
      const held = two.pauses.hold('upload:begun');
      const slow = outcome(two.registry.uploads.append(target, bodyOf([MORE])));
      await held.reached;
      await one.registry.uploads.append(target, bodyOf([SMALL[1]], { from: 1_000 }));
      for (const { key } of await removalRows(one)) await rm(join(site.root, key), { force: true });
      held.release();
      expect(await slow).to.equal('UploadTaken');
    });
  });

  it('64 uploads whose clients stall take no memory from one that is fast', async function () {
    this.timeout(60_000);
    const rooms = site.open({ uploadMemory: MiB, pool: 4 });
    const clients = Array.from({ length: 64 }, () => stall());
    const stalled = clients.map(async (client, index) => {
      const target = await begin(rooms);
      return await rooms.registry.uploads.append(target, bodyOf([bytesOf(64 * 1024, index), client.wait]));
    });
    await Promise.all(clients.map((client) => client.reached));
    const bytes = bytesOf(24 * MiB);
    const target = await begin(rooms);
    await rooms.registry.uploads.finish(target, sha256(bytes), bodyOf(pieces(bytes)));
    for (const client of clients) client.go();
    expect(new Set(await Promise.all(stalled))).to.deep.equal(new Set([64 * 1024]));
  });

  it('everything works with one connection, eight at a time', async () => {
    const rooms = site.open({ pool: 1 });
    await Promise.all(
      Array.from({ length: 8 }, async (_, index) => {
        const bytes = [bytesOf(5_000, index), bytesOf(7_000, index + 100)] as const;
        const target = await begin(rooms);
        await rooms.registry.uploads.append(target, bodyOf([bytes[0]]));
        await rooms.registry.uploads.finish(target, sha256(...bytes), bodyOf([bytes[1]]));
        await rooms.registry.blobs.mount(NAME, sha256(...bytes), NAME, () => true, ACTOR);
        expect(await read(rooms, sha256(...bytes))).to.deep.equal(Buffer.concat(bytes));
        await push(rooms, Buffer.concat(bytes));
      }),
    );
  });
});
