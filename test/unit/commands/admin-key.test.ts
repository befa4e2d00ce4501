import { expect } from 'chai';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findKeyHash, matchesKey } from '../../../src/auth/keys.js';
import { ensureAdminKey } from '../../../src/commands/admin-key.js';
import { readConfig } from '../../../src/config.js';
import { connect, type Database } from '../../../src/database/connect.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

describe('the first admin key', () => {
  let site: TestDatabase;
  let database: Database;
  let folder: string;

  beforeEach(async () => {
    site = await createDatabase();
    database = connect({ url: site.url, pool: 4, timeout: 5 });
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-admin-key-'));
  });
  afterEach(async () => {
    await database.close();
    await site.drop();
    await rm(folder, { recursive: true, force: true });
  });

  const node = (name: string) =>
    readConfig({ REGISTRY_DATA_DIR: join(folder, name), REGISTRY_BCRYPT_COST: '4', REGISTRY_WORKERS: '1' });
  const keptBy = async (name: string) =>
    await readFile(join(folder, name, 'admin-key'), 'utf8').then(
      (text) => text.trim(),
      () => undefined,
    );

  it('is made once when several nodes start at the same moment, and only the node that made it has it', async () => {
    const names = ['a', 'b', 'c'];
    const told = await Promise.all(names.map((name) => ensureAdminKey(database, node(name))));
    const [key, ...others] = told.filter((text) => text !== undefined);
    expect(others).to.deep.equal([]);
    expect(await matchesKey(key ?? '', (await findKeyHash(database, 'admin'))?.hash ?? '')).to.equal(true);
    expect(await Promise.all(names.map(keptBy))).to.have.members([key, undefined, undefined]);
    for (const name of names) expect(await ensureAdminKey(database, node(name))).to.equal(undefined);
  });

  it('that was written down by a start that got no further is the one of the next', async () => {
    const key = await ensureAdminKey(database, node('a'));
    await database.query('delete from api_keys');
    expect(await ensureAdminKey(database, node('a'))).to.equal(key);
    expect(await keptBy('a')).to.equal(key);
  });
});
