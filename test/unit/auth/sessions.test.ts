import { expect } from 'chai';
import type { Identity } from '../../../src/auth/access.js';
import { createKey, revokeKey } from '../../../src/auth/keys.js';
import { LEASE_MS } from '../../../src/auth/lease.js';
import { csrfTokenOf, isCsrfTokenOf, Sessions, sessionsJob } from '../../../src/auth/sessions.js';
import { KeyRows } from '../../../src/auth/key-rows.js';
import { connect, type Database } from '../../../src/database/connect.js';
import { isFailure } from '../../../src/errors.js';
import { UNHEARD } from '../../support/keys.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const HOUR = 3600;

describe('sessions of browsers', () => {
  let site: TestDatabase;
  let database: Database;

  before(async () => {
    site = await createDatabase();
    database = connect({ url: site.url, pool: 4, timeout: 10 });
  });
  after(async () => {
    await database.close();
    await site.drop();
  });

  const open = (on = database) => new Sessions(on, { lifetimeSeconds: 12 * HOUR, idleSeconds: HOUR });
  const identity = async (expiresAt?: Date): Promise<Identity & { readonly secret: string }> => {
    const { id } = await createKey(database, { name: 'x', grants: [], readOnly: false, expiresAt }, 4, UNHEARD);
    const row = await new KeyRows(database).find(id);
    return { kind: 'key', id, name: 'x', grants: [], readOnly: false, secret: row?.fingerprint ?? '' };
  };
  const seenAgo = async (id: string) => {
    const [row] = await database.query<{ ago: number }>(
      'select extract(epoch from now() - seen_at)::float8 as ago from sessions where id = $1',
      [id],
    );
    return row?.ago ?? Number.NaN;
  };

  it('are found by their cookie alone, of which the database holds nothing', async () => {
    const [session, cookie] = await open().begin(await identity(), undefined, UNHEARD);
    expect(cookie).to.match(/^whs_[\w-]{43}$/);
    expect(await open().find(cookie)).to.deep.include(session);
    expect(await open().find(session.id)).to.equal(undefined);
    expect(await open().find(`whs_${session.id}`)).to.equal(undefined);
    const [row] = await database.query('select * from sessions where id = $1', [session.id]);
    expect(JSON.stringify(row)).not.to.include(cookie.slice(4));
  });

  it('are looked up once a lease, however often they come', async () => {
    let queries = 0;
    const counting: Database = {
      ...database,
      query: async (text, values) => {
        queries += 1;
        return await database.query(text, values);
      },
    };
    const [, cookie] = await open().begin(await identity(), undefined, UNHEARD);
    const sessions = open(counting);
    const before = performance.now();
    for (let index = 0; index < 500; index++) expect(await sessions.find(cookie)).not.to.equal(undefined);
    expect(queries).to.be.within(1, 1 + Math.ceil((performance.now() - before) / LEASE_MS));
    const garbage = queries;
    for (const text of ['', 'x', `${cookie}x`, `wh_admin_${'x'.repeat(43)}`, "whs_'; drop table sessions"])
      expect(await sessions.find(text)).to.equal(undefined);
    expect(queries).to.equal(garbage);
  });

  it('do not outlive their key', async () => {
    const end = new Date(Date.now() + HOUR * 1000);
    const [session] = await open().begin(await identity(end), undefined, UNHEARD);
    expect(session.expiresAt).to.deep.equal(end);
  });

  it('begin not at all, or end, when their key is revoked at the same time', async () => {
    const outcomes = new Set<string>();
    for (let round = 0; round < 10; round++) {
      const mine = await identity();
      const [begun] = await Promise.all([
        open()
          .begin(mine, undefined, UNHEARD)
          .then(
            () => 'begun',
            (error: unknown) => (isFailure(error) ? error.failure : String(error)),
          ),
        revokeKey(database, mine.id, UNHEARD),
      ]);
      outcomes.add(begun);
      expect(await database.query('select from sessions where key_prefix = $1', [mine.id])).to.have.length(0);
    }
    expect([...outcomes].filter((outcome) => !['begun', 'Unauthorized'].includes(outcome))).to.deep.equal([]);
  });

  it('are kept alive by use, which is written down later, also where that failed once', async () => {
    const sessions = open();
    const [{ id }, cookie] = await sessions.begin(await identity(), undefined, UNHEARD);
    await database.query("update sessions set seen_at = now() - interval '59 minutes' where id = $1", [id]);
    await sessions.flushUses();
    expect(await seenAgo(id)).to.be.above(58 * 60);
    sessions.use(id);
    let away = true;
    const failing: Database = {
      ...database,
      query: async (text, values) => {
        if (away) throw new Error('away');
        return await database.query(text, values);
      },
    };
    const other = open(failing);
    other.use(id);
    expect(await other.flushUses().catch((error: Error) => error.message)).to.equal('away');
    away = false;
    await other.flushUses();
    expect(await seenAgo(id)).to.be.below(58 * 60);
    await database.query("update sessions set seen_at = now() - interval '61 minutes' where id = $1", [id]);
    const later = open();
    expect(await later.find(cookie)).to.equal(undefined);
    // What began in it goes on.
    expect(await later.isThere(id)).to.equal(true);
  });

  it('are no more than a thousand of a key: the oldest end', async () => {
    const mine = await identity();
    const [first, cookie] = await open().begin(mine, undefined, UNHEARD);
    await database.query(
      `insert into sessions (id, key_prefix, fingerprint, expires_at, created_at)
       select 'filler ' || n, $1, 'x', now() + interval '1 hour', now() - make_interval(secs => n - 500)
         from generate_series(1, 999) n`,
      [mine.id],
    );
    await database.query("update sessions set created_at = now() - interval '1 day' where id = $1", [first.id]);
    await open().begin(mine, undefined, UNHEARD);
    expect(await open().find(cookie)).to.equal(undefined);
    expect(await database.query('select from sessions where key_prefix = $1', [mine.id])).to.have.length(1_000);
  });

  it('are forgotten a day after their end by a job', async () => {
    const mine = await identity();
    const [old] = await open().begin(mine, undefined, UNHEARD);
    const [over] = await open().begin(mine, undefined, UNHEARD);
    await database.query("update sessions set expires_at = now() - interval '25 hours' where id = $1", [old.id]);
    await database.query("update sessions set expires_at = now() - interval '23 hours' where id = $1", [over.id]);
    expect(await sessionsJob(database, 1_000).run()).to.equal(false);
    expect(await open().isThere(old.id)).to.equal(false);
    expect(await open().isThere(over.id)).to.equal(true);
  });

  it('have a token each that is of no other, and tells nothing of the cookie', () => {
    const [one, other] = ['whs_one', 'whs_other'];
    expect(isCsrfTokenOf(one, csrfTokenOf(one))).to.equal(true);
    for (const token of [csrfTokenOf(other), '', one, `${csrfTokenOf(one)} `])
      expect(isCsrfTokenOf(one, token)).to.equal(false);
    expect(csrfTokenOf(one)).to.match(/^[\w-]{43}$/);
  });
});
