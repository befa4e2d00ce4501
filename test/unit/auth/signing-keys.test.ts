import { expect } from 'chai';
import { LEASE_MS } from '../../../src/auth/lease.js';
import { revokeAllTokens, SigningKeys } from '../../../src/auth/signing-keys.js';
import { fingerprintOf, Tokens } from '../../../src/auth/tokens.js';
import { connect, type Database } from '../../../src/database/connect.js';
import { isFailure } from '../../../src/errors.js';
import { UNHEARD } from '../../support/keys.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const CLAIMS = {
  kind: 'key',
  subject: 'one',
  name: '',
  grants: [],
  repositories: ['a/b'],
  catalog: false,
  fingerprint: 'of one',
} as const;
const DAY = 24 * 60 * 60;

describe('keys that sign', () => {
  let site: TestDatabase;
  let database: Database;
  beforeEach(async () => {
    site = await createDatabase();
    database = connect({ url: site.url, pool: 6, timeout: 5 });
  });
  afterEach(async () => {
    await database.close();
    await site.drop();
  });

  const node = () => new SigningKeys({ database, lifetimeSeconds: DAY, keepSeconds: DAY });
  const age = async (seconds: number) =>
    await database.query('update signing_keys set created_at = created_at - make_interval(secs => $1)', [seconds]);
  const count = async () => (await database.query('select from signing_keys')).length;

  it('tell the time by the clock of PostgreSQL, also where there are none yet', async () => {
    const clock = async () =>
      (await database.query<{ now: number }>('select extract(epoch from clock_timestamp())::float8 as now'))[0]?.now;
    const keys = node();
    for (const round of ['without a key', 'with one']) {
      const earliest = await clock();
      await keys.now();
      keys.end();
      const told = await keys.now();
      expect(told, round).to.be.within((earliest ?? 0) - 1, ((await clock()) ?? 0) + 1);
      await keys.current();
    }
  });

  it('are made once, however many nodes find none at the same time', async () => {
    const keys = await Promise.all(Array.from({ length: 5 }, () => node().current()));
    expect(new Set(keys.map((key) => key.id)).size).to.equal(1);
    expect(await count()).to.equal(1);
  });

  it('change in turn, and the former ones are kept until what they signed has expired', async () => {
    const first = new Tokens(node());
    const token = await first.signAccess(CLAIMS, 3 * DAY);
    await age(DAY + 1);
    const second = new Tokens(node());
    const later = await second.signAccess(CLAIMS, 60);
    expect(await count()).to.equal(2);
    expect((await second.verifyAccess(token)).subject).to.equal('one');
    await age(DAY + 1);
    await new Tokens(node()).signAccess(CLAIMS, 60);
    expect(await count()).to.equal(2);
    const last = new Tokens(node());
    expect((await last.verifyAccess(later)).repositories).to.deep.equal(['a/b']);
    const error: unknown = await last.verifyAccess(token).catch((thrown: unknown) => thrown);
    expect(isFailure(error, 'Unauthorized')).to.equal(true);
  });

  it('are found by a node whose lease is older than they are, by all that ask at once', async () => {
    const other = node();
    await other.current();
    await age(DAY + 1);
    const made = await node().current();
    const found = await Promise.all([other.find(made.id), other.find(made.id)]);
    expect(found.map((key) => key?.id)).to.deep.equal([made.id, made.id]);
  });

  it('are not asked for again for every id that somebody makes up', async () => {
    let queries = 0;
    const counting: Database = {
      ...database,
      query: async (text, values) => {
        queries += 1;
        return await database.query(text, values);
      },
    };
    const keys = new SigningKeys({ database: counting, lifetimeSeconds: DAY, keepSeconds: DAY });
    const before = performance.now();
    for (let index = 0; index < 200; index++) expect(await keys.find(`made-up-${index}`)).to.equal(undefined);
    const leases = Math.ceil((performance.now() - before) / LEASE_MS);
    expect(queries).to.be.at.most(2 * leases);
    // What was announced is found at once all the same.
    const made = await node().current();
    keys.end();
    expect((await keys.find(made.id))?.id).to.equal(made.id);
  });

  it('are all gone when every token is revoked', async () => {
    const keys = node();
    const tokens = new Tokens(keys);
    const token = await tokens.signAccess(CLAIMS, 60);
    await revokeAllTokens(database, UNHEARD);
    keys.end();
    const error: unknown = await tokens.verifyAccess(token).catch((thrown: unknown) => thrown);
    expect(isFailure(error, 'Unauthorized')).to.equal(true);
    expect((await tokens.verifyAccess(await tokens.signAccess(CLAIMS, 60))).subject).to.equal('one');
  });

  it('sign refresh tokens that tell nothing of the secret', async () => {
    const hash = '$2b$10$abcdefghijklmnopqrstuv';
    const fingerprint = fingerprintOf(hash);
    expect(fingerprint).not.to.equal(fingerprintOf(`${hash}x`));
    const tokens = new Tokens(node());
    const token = await tokens.signRefresh({ subject: 'one', fingerprint }, 60);
    expect(await tokens.verifyRefresh(token)).to.deep.equal({ subject: 'one', fingerprint });
    const text = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString();
    expect(text).not.to.include(hash.slice(7));
    const expired = await tokens.signRefresh({ subject: 'one', fingerprint }, -1);
    const error: unknown = await tokens.verifyRefresh(expired).catch((thrown: unknown) => thrown);
    expect(isFailure(error, 'Unauthorized')).to.equal(true);
  });
});
