import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { connect, type Database } from '../../src/database/connect.js';
import { checkMarkers } from '../../src/registry/installation.js';
import { FilesystemStore } from '../../src/storage/filesystem.js';
import { MemoryBudget } from '../../src/storage/memory-budget.js';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import { Site } from '../support/rooms.js';
import { PassingStore } from './races-stores.js';

/** Finds no marker until all who share the gate have looked. */
class MeetingStore extends PassingStore {
  #looked = false;

  constructor(
    inner: FilesystemStore,
    readonly gate: { missing: number; open: () => void; opened: Promise<void> },
  ) {
    super(inner);
  }

  override async readMarker(): Promise<string | undefined> {
    const marker = await super.readMarker();
    if (this.#looked) return marker;
    this.#looked = true;
    this.gate.missing -= 1;
    if (this.gate.missing === 0) this.gate.open();
    await this.gate.opened;
    return marker;
  }
}

describe('one folder and several who mark it', () => {
  let site: Site;
  let other: TestDatabase;
  let databases: Database[];
  let root: string;

  beforeEach(async () => {
    site = await Site.make();
    other = await createDatabase();
    databases = [site.testDatabase, other].map(({ url }) => connect({ url, pool: 2, timeout: 10 }));
    root = join(site.folder, 'new');
    await mkdir(root);
    await forgetBeacons();
  });
  afterEach(async () => {
    await Promise.all(databases.map((database) => database.close()));
    await other.drop();
    await site.dispose();
  });

  /** As if none of them ever had a store. */
  async function forgetBeacons(): Promise<void> {
    for (const database of databases) await database.query('update installation set beacon = null, beacon_at = null');
  }

  /** What becomes of each of them, all having found the folder without a marker. */
  async function start(starting: (Database | undefined)[]): Promise<string[]> {
    let open = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    const gate = { missing: starting.length, open, opened };
    return await Promise.all(
      starting.map(async (database) => {
        const budget = new MemoryBudget(1024 * 1024);
        const store = new MeetingStore(new FilesystemStore({ root, budget, downloadMemory: 1024 * 1024 }), gate);
        if (!database) throw new Error('no database');
        return await checkMarkers(database, store).then(
          () => 'started',
          (error: unknown) => String(error),
        );
      }),
    );
  }

  it('of two databases at once one wins, and the other is refused', async () => {
    for (let time = 0; time < 10; time++) {
      await rm(root, { recursive: true });
      await mkdir(root);
      await forgetBeacons();
      const outcomes = (await start(databases)).sort();
      expect(outcomes[1]).to.equal('started');
      expect(outcomes[0]).to.match(/the storage belongs to another database/);
      expect(await readdir(root)).to.deep.equal(['weighhouse.beacons', 'weighhouse.marker']);
    }
  });

  it('two processes of one database at once both start', async () => {
    expect(await start([databases[0], databases[0]])).to.deep.equal(['started', 'started']);
    expect(await readdir(root)).to.deep.equal(['weighhouse.beacons', 'weighhouse.marker']);
  });
});
