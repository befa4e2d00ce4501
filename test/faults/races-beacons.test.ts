import { cp, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { RegistryError } from '../../src/errors.js';
import { adoptStore, checkMarkers, requireOwnStore } from '../../src/registry/installation.js';
import { FilesystemStore } from '../../src/storage/filesystem.js';
import { MemoryBudget } from '../../src/storage/memory-budget.js';
import { connect, type Database } from '../../src/database/connect.js';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import { Site } from '../support/rooms.js';
import { PassingStore } from './races-stores.js';

/** Waits, before it is marked, until all who share the gate are about to mark theirs. */
class MeetingStore extends PassingStore {
  constructor(
    inner: FilesystemStore,
    readonly gate: { missing: number; open: () => void; opened: Promise<void> },
  ) {
    super(inner);
  }

  override async mark(marker: string): Promise<void> {
    this.gate.missing -= 1;
    if (this.gate.missing === 0) this.gate.open();
    await this.gate.opened;
    await super.mark(marker);
  }
}

/** Has no room left. */
class FullStore extends PassingStore {
  override async putBeacon(): Promise<void> {
    throw new RegistryError('StorageFull', 'no room');
  }
}

describe('nodes of one database with folders of their own', () => {
  let site: Site;
  let test: TestDatabase;
  let database: Database;

  beforeEach(async () => {
    site = await Site.make();
    test = await createDatabase();
    database = connect({ url: test.url, pool: 4, timeout: 10 });
  });
  afterEach(async () => {
    await database.close();
    await test.drop();
    await site.dispose();
  });

  async function folder(name: string): Promise<FilesystemStore> {
    const root = join(site.folder, name);
    await mkdir(root, { recursive: true });
    return new FilesystemStore({ root, budget: new MemoryBudget(1024 * 1024), downloadMemory: 1024 * 1024 });
  }

  const outcome = async (work: Promise<void>) =>
    await work.then(
      () => 'started',
      (error: unknown) => String(error),
    );

  /** As if the last start lay long back. */
  const age = () => database.query(`update installation set beacon_at = now() - interval '2 hours'`);

  it('that were never used, at once: one starts, and the others are refused, then and later', async () => {
    const names = ['one', 'two', 'three'];
    let open = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    const gate = { missing: names.length, open, opened };
    const stores = await Promise.all(names.map(async (name) => new MeetingStore(await folder(name), gate)));
    const first = await Promise.all(stores.map((store) => outcome(checkMarkers(database, store))));
    expect(first.filter((each) => each === 'started')).to.have.length(1);
    expect(first.filter((each) => /not the one that the nodes of this database used last/.test(each))).to.have.length(
      2,
    );
    for (const [index, store] of stores.entries()) {
      const again = await outcome(checkMarkers(database, store.inner));
      expect(again === 'started').to.equal(first[index] === 'started');
    }
  });

  it('are refused while nothing was pushed yet: an empty folder is one that is not mounted', async () => {
    const shared = await folder('shared');
    await checkMarkers(database, shared);
    const empty = await folder('empty');
    expect(await outcome(checkMarkers(database, empty))).to.match(/is it mounted\?.*weighhouse adopt/);
    expect(await readdir(empty.root)).to.deep.equal([]);
    expect(await outcome(checkMarkers(database, shared))).to.equal('started');
  });

  it('are refused when one is a copy from before the last start, also in what they would give up', async () => {
    const live = await folder('live');
    await checkMarkers(database, live);
    const copy = await folder('copy');
    await cp(live.root, copy.root, { recursive: true });
    await age();
    await checkMarkers(database, live);
    expect(await outcome(checkMarkers(database, copy))).to.match(/is it a copy/);
    expect(await outcome(requireOwnStore(database, copy))).to.match(/the storage is not available/);
    expect(await outcome(requireOwnStore(database, live))).to.equal('started');
  });

  it('are those of a moved store once the operator says so, and the former one is refused', async () => {
    const former = await folder('former');
    await checkMarkers(database, former);
    const restored = await folder('restored');
    await adoptStore(database, restored);
    expect(await outcome(checkMarkers(database, restored))).to.equal('started');
    expect(await outcome(checkMarkers(database, former))).to.match(/not the one/);
    await adoptStore(database, former);
    expect(await outcome(checkMarkers(database, restored))).to.match(/not the one/);
  });

  it('are not told apart by a start that finds its folder full, but it starts', async () => {
    const store = await folder('full');
    expect(await outcome(checkMarkers(database, new FullStore(store)))).to.match(/no room/);
    await checkMarkers(database, store);
    await age();
    expect(await outcome(checkMarkers(database, new FullStore(store)))).to.equal('started');
    expect(await readdir(join(store.root, 'weighhouse.beacons'))).to.have.length(1);
  });

  it('put up one beacon an hour however often they start', async () => {
    const store = await folder('restless');
    for (let time = 0; time < 5; time++) await checkMarkers(database, store);
    expect(await readdir(join(store.root, 'weighhouse.beacons'))).to.have.length(1);
    await age();
    await Promise.all([1, 2, 3].map(() => checkMarkers(database, store)));
    const [row] = await database.query<{ beacon: string }>('select beacon from installation');
    expect(await readdir(join(store.root, 'weighhouse.beacons'))).to.include(row?.beacon);
  });
});
