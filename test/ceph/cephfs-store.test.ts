import { mkdtemp, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { expect } from 'chai';
import { connect, type Database } from '../../src/database/connect.js';
import { checkMarkers } from '../../src/registry/installation.js';
import { FilesystemStore } from '../../src/storage/filesystem.js';
import { checkFolder } from '../../src/storage/folder-check.js';
import { MemoryBudget } from '../../src/storage/memory-budget.js';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import {
  agreed,
  describeSegmentStore,
  failureOf,
  never,
  newKey,
  pattern,
  piecesOf,
  sourceOf,
  Witness,
} from '../unit/storage/segment-store-contract.js';
import { type Mounts, sharedMounts } from './support/ceph.js';
import { put, read } from './support/scene.js';

const MiB = 1024 * 1024;

let mounts: Mounts;

before(async function () {
  this.timeout(300_000);
  mounts = await sharedMounts(this);
});

const storeIn = (root: string) =>
  new FilesystemStore({ root, budget: new MemoryBudget(32 * MiB), downloadMemory: 8 * MiB });

/** One folder as two nodes have it. */
async function make() {
  const root = await mkdtemp(join(mounts.first, 'store-'));
  const [store, other] = [storeIn(root), storeIn(join(mounts.second, basename(root)))];
  await store.mark('marker');
  await store.prepare();
  return { store, other, dispose: () => rm(root, { recursive: true, force: true }) };
}

describeSegmentStore('CephFS', make);

describe('segments on CephFS, of two nodes', () => {
  let made: Awaited<ReturnType<typeof make>>;

  beforeEach(async () => {
    made = await make();
  });
  afterEach(async () => await made.dispose());

  it('lie in a folder that has all that it needs', async () => {
    for (const { root } of [made.store, made.other]) expect(await checkFolder(root)).to.equal(true);
  });

  it('are whole on one node as soon as the other has sealed them, also where that one has just seen them short', async () => {
    const bytes = pattern(2 * MiB);
    for (let time = 0; time < 10; time++) {
      const key = newKey();
      const segment = await made.store.begin(key);
      // Half of it lies there, and the other node has looked and read.
      let seen = 0;
      const source = sourceOf([
        ...piecesOf(bytes.subarray(0, MiB), 100_000),
        async () => {
          for (; seen < MiB / 2; seen = (await made.other.stat(key))?.size ?? 0);
          await read(made.other, key, 0, MiB / 2);
          expect(await failureOf(made.other.open(key, { start: 0, end: bytes.length }))).to.equal('BlobDamaged');
        },
        ...piecesOf(bytes.subarray(MiB), 100_000),
      ]);
      await segment.write(source, never, new Witness());
      await segment.seal(agreed);
      expect((await read(made.other, key, 0, bytes.length)).equals(bytes)).to.equal(true);
      await segment.close();
    }
  });

  it('are gone on one node as soon as the other has removed them', async () => {
    const { key } = await put(made.store, pattern(MiB));
    await read(made.other, key, 0, MiB);
    expect(await made.store.remove(key)).to.equal(false);
    expect(await made.other.stat(key)).to.equal(undefined);
    expect(await failureOf(made.other.open(key, { start: 0, end: 1 }))).to.equal('BlobDamaged');
    expect(await made.other.remove(key)).to.equal(true);
  });

  it('wait while an OSD is dead, and then go on: nothing that was sealed or reported is lost', async function () {
    this.timeout(180_000);
    const bytes = pattern(64 * MiB);
    const { key: before } = await put(made.store, bytes);
    const key = newKey();
    const segment = await made.store.begin(key);
    const witness = new Witness();
    let back = Promise.resolve();
    const source = sourceOf([
      ...piecesOf(bytes.subarray(0, 8 * MiB), 100_000),
      async () => {
        await mounts.ceph.killOsd();
        back = mounts.ceph.startOsd();
      },
      ...piecesOf(bytes.subarray(8 * MiB), 100_000),
    ]);
    await segment.write(source, never, witness);
    expect(await segment.seal(agreed)).to.include({ size: bytes.length });
    await segment.close();
    await back;
    expect(witness.reports.length).to.be.greaterThan(0);
    for (const each of [before, key])
      expect((await read(made.other, each, 0, bytes.length)).equals(bytes)).to.equal(true);
  });
});

describe('nodes with mounts of their own', () => {
  let test: TestDatabase;
  let database: Database;
  let root: string;

  beforeEach(async () => {
    test = await createDatabase();
    database = connect({ url: test.url, pool: 4, timeout: 10 });
    root = await mkdtemp(join(mounts.first, 'nodes-'));
  });
  afterEach(async () => {
    await database.close();
    await test.drop();
    await rm(root, { recursive: true, force: true });
  });

  it('know that they share a folder, and that one is somewhere else', async () => {
    const name = basename(root);
    const starts = [root, join(mounts.second, name)].map((folder) => checkMarkers(database, storeIn(folder)));
    await Promise.all(starts);
    const elsewhere = await mkdtemp(join(mounts.second, 'elsewhere-'));
    const refusal = await checkMarkers(database, storeIn(elsewhere)).catch((error: Error) => error.message);
    await rm(elsewhere, { recursive: true });
    expect(refusal).to.match(/is it mounted/);
  });
});
