import { mkdir } from 'node:fs/promises';
import { connect as dial, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import { bodyOf, Site } from '../support/rooms.js';
import {
  begin,
  bytesOf,
  compactorOf,
  NAME,
  outcome,
  push,
  pushChunks,
  read,
  removalRows,
  sha256,
  stall,
  uploadRow,
} from './races-scene.js';
import { EagerStore } from './races-stores.js';

const BYTES = bytesOf(100_000, 1);
const DIGEST = sha256(BYTES);

/** A way to PostgreSQL that loses the answer to the next message after `cut`, and with it the connection. */
class LossyWay {
  #cutting = false;
  #lost: () => void = () => {};
  readonly #sockets = new Set<Socket>();

  private constructor(
    readonly url: string,
    readonly server: Server,
  ) {}

  static async open(site: Site): Promise<LossyWay> {
    const folder = join(site.folder, 'way');
    await mkdir(folder);
    const original = new URL(site.testDatabase.url.replace(/^(\w+:\/\/[^@/]*@)\//, '$1localhost/'));
    const host = original.searchParams.get('host') ?? original.hostname;
    const port = original.searchParams.get('port') ?? (original.port || '5432');
    const server = createServer();
    const path = join(folder, `.s.PGSQL.${port}`);
    const url = host.startsWith('/')
      ? site.testDatabase.url.replace(encodeURIComponent(host), encodeURIComponent(folder)).replace(host, folder)
      : site.testDatabase.url;
    const way = new LossyWay(url, server);
    server.on('connection', (near) => way.#join(near, dial(join(host, `.s.PGSQL.${port}`))));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    return way;
  }

  #join(near: Socket, far: Socket): void {
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.on('data', (bytes) => far.write(bytes));
    far.on('data', (bytes) => {
      if (!this.#cutting) return near.write(bytes);
      this.#cutting = false;
      near.destroy();
      this.#lost();
    });
  }

  /** @returns what resolves when the answer was lost. */
  cut(): Promise<void> {
    this.#cutting = true;
    return new Promise((resolve) => {
      this.#lost = resolve;
    });
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.server.close();
  }
}

describe('a database that goes away', () => {
  let site: Site;
  let way: LossyWay;

  beforeEach(async () => {
    site = await Site.make();
    way = await LossyWay.open(site);
  });
  afterEach(async () => {
    way.close();
    await site.dispose();
  });

  it('the same final PUT is answered well after the answer to its COMMIT was lost', async () => {
    const rooms = site.open({ url: way.url, pool: 1 });
    const target = await begin(rooms);
    const held = rooms.pauses.hold('upload:in-commit');
    const commit = outcome(rooms.registry.uploads.finish(target, DIGEST, bodyOf([BYTES])));
    await held.reached;
    const lost = way.cut();
    held.release();
    await lost;
    expect(await commit).to.equal('Unavailable');
    // As the door does after a single POST that failed: nobody knows whether the COMMIT holds, and the row decides.
    expect(await outcome(rooms.registry.uploads.cancel(target))).to.equal('UploadUnknown');
    expect(await removalRows(rooms)).to.have.length(0);
    await rooms.registry.uploads.finish(target, DIGEST, bodyOf([BYTES]));
    expect(await read(rooms, DIGEST)).to.deep.equal(BYTES);
  });

  it('a compaction of which nobody knows whether it was committed gives nothing up that it may have named', async () => {
    const rooms = site.open({ url: way.url, pool: 1 });
    const chunks = [bytesOf(200_000, 1), bytesOf(100_000, 2)];
    const digest = await pushChunks(rooms, chunks);
    const held = rooms.pauses.hold('compaction:in-swap');
    const compaction = outcome(compactorOf(rooms).run());
    await held.reached;
    const lost = way.cut();
    held.release();
    await lost;
    expect(await compaction).to.equal('Unavailable');
    const blob = await rooms.registry.blobs.getOpenable(NAME, digest);
    expect(blob.wholeObject).to.be.a('string');
    expect((await removalRows(rooms)).map(({ key }) => key)).not.to.include(blob.wholeObject);
    expect(await read(rooms, digest)).to.deep.equal(Buffer.concat(chunks));
  });

  it('a transaction whose connection fails in the middle is undone, and the next one has a new connection', async () => {
    const rooms = site.open({ url: way.url, pool: 1 });
    const failed = rooms.database.transaction(async (transaction) => {
      await transaction.query('insert into bodies default values');
      await Promise.all([way.cut(), transaction.query('select 1 as one').catch(() => undefined)]);
      await transaction.query('insert into bodies default values');
    });
    expect(await outcome(failed)).to.equal('Unavailable');
    expect(await rooms.database.query('select from bodies')).to.have.length(0);
    expect(await push(rooms, BYTES)).to.equal(DIGEST);
  });

  it('a transaction that PostgreSQL rolled back is no success, though the COMMIT was answered', async () => {
    const observer = async (_: unknown, __: unknown, transaction: { query(text: string): Promise<object[]> }) => {
      await transaction.query('select 1/0').catch(() => undefined);
    };
    const rooms = site.open({ observers: [observer] });
    let message = 'done';
    try {
      await push(rooms, BYTES);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).to.match(/rolled back/);
    expect(await outcome(rooms.registry.blobs.get(NAME, DIGEST))).to.equal('BlobUnknown');
  });

  it('bytes go on while their progress can’t be recorded, and are all there afterwards', async () => {
    const rooms = site.open({ url: way.url, pool: 1, store: (store) => new EagerStore(store), recordBytes: 1 });
    const watcher = site.open();
    const target = await begin(rooms);
    const client = stall();
    const writer = rooms.registry.uploads.append(
      target,
      bodyOf([BYTES.subarray(0, 50_000), client.wait, BYTES.subarray(50_000)]),
    );
    await client.reached;
    const lost = way.cut();
    client.go();
    await lost;
    expect(await writer).to.equal(BYTES.length);
    expect(await uploadRow(watcher, target.id)).to.include({ offset: BYTES.length, prefixDigest: DIGEST });
  });
});
