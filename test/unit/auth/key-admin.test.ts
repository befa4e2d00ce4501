import { expect } from 'chai';
import type { AccessChange } from '../../../src/auth/changes.js';
import type { Grant } from '../../../src/auth/grants.js';
import { changeKey, getKeyByPrefix, type KeyChanges, listKeyPage, removeKey } from '../../../src/auth/key-admin.js';
import { addKey, findKeyHash, freshKey } from '../../../src/auth/keys.js';
import { connect, type Database } from '../../../src/database/connect.js';
import { isFailure } from '../../../src/errors.js';
import { ACTOR } from '../../support/rooms.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const ADMIN: readonly Grant[] = [{ repository: '**', actions: ['admin'] }];
const PULL: readonly Grant[] = [{ repository: 'team/*', actions: ['pull'] }];
const HOUR_MS = 3_600_000;

describe('keys that are administered', () => {
  let site: TestDatabase;
  let database: Database;
  let told: AccessChange[];

  before(async () => {
    site = await createDatabase();
    database = connect({ url: site.url, pool: 4, timeout: 5 });
  });
  after(async () => {
    await database.close();
    await site.drop();
  });
  beforeEach(async () => {
    await database.query('delete from api_keys');
    told = [];
  });

  const announced = {
    actor: ACTOR,
    observers: [
      async (change: AccessChange) => {
        await Promise.resolve();
        told.push(change);
      },
    ],
  };
  const change = { announced, expect: () => undefined };

  /** The id of a new key's row. */
  async function made(grants = ADMIN, more: { readOnly?: boolean; expiresAt?: Date; name?: string } = {}) {
    const { readOnly = false, expiresAt, name = 'one' } = more;
    const fresh = await freshKey((secret) => Promise.resolve(`hash of ${secret}`));
    return await database.transaction(async (transaction) => {
      await addKey(transaction, fresh, { name, grants, readOnly, expiresAt }, announced);
      return (await getKeyByPrefix(transaction, fresh.id)).id;
    });
  }
  const alter = async (id: string, changes: KeyChanges) =>
    await database.transaction((transaction) => changeKey(transaction, id, changes, change));
  const remove = async (id: string, start = 'admin') =>
    await database.transaction((transaction) => removeKey(transaction, id, start, change));
  const outcome = async (work: Promise<unknown>) =>
    await work.then(
      () => 'done',
      (error: unknown) => (isFailure(error) ? error.failure : String(error)),
    );
  const later = (hours: number) => new Date(Date.now() + hours * HOUR_MS);

  it('keep their hash, whatever else is changed of them', async () => {
    await made();
    const id = await made();
    const { key_prefix: prefix } = (await alter(id, {})).key;
    const before = await findKeyHash(database, prefix);
    const { key } = await alter(id, { name: 'two', grants: PULL, read_only: true, expires_at: later(1) });
    expect(key).to.deep.include({ name: 'two', grants: PULL, read_only: true, is_active: true });
    expect(await findKeyHash(database, prefix)).to.deep.equal(before);
    expect(await getKeyByPrefix(database, prefix)).to.deep.equal(key);
    expect(JSON.stringify(key)).not.to.include('hash');
  });

  it('tell once of each change, with what was before and is after, and nothing of one that changes nothing', async () => {
    await made();
    const id = await made();
    told.length = 0;
    expect((await alter(id, { name: 'two' })).rightsChanged).to.equal(false);
    expect((await alter(id, { name: 'two', is_active: true })).rightsChanged).to.equal(false);
    expect((await alter(id, { is_active: false, grants: PULL })).rightsChanged).to.equal(true);
    expect((await alter(id, { is_active: true })).rightsChanged).to.equal(true);
    await remove(id);
    expect(told.map(({ kind }) => kind)).to.deep.equal(['key-changed', 'key-revoked', 'key-changed', 'key-removed']);
    const [renamed, revoked] = told;
    expect(renamed).to.deep.include({ secretReplaced: false });
    expect(renamed && 'before' in renamed ? renamed.before : undefined).to.deep.include({ name: 'one' });
    expect(revoked && 'after' in revoked ? revoked.after : undefined).to.deep.include({ active: false, grants: PULL });
  });

  for (const [what, work] of [
    ['its removal', async (id: string) => await remove(id)],
    ['its end', async (id: string) => await alter(id, { is_active: false })],
    ['other grants', async (id: string) => await alter(id, { grants: PULL })],
    ['holding it to reading', async (id: string) => await alter(id, { read_only: true })],
    ['an expiry', async (id: string) => await alter(id, { expires_at: later(1) })],
  ] as const) {
    it(`leave one admin who can come in: the last one is kept from ${what}`, async () => {
      const id = await made();
      // Of these none could give out keys.
      await made(PULL);
      await made(ADMIN, { readOnly: true });
      const gone = await made(ADMIN, { expiresAt: later(1) });
      await database.query(`update api_keys set expires_at = now() - interval '1 hour' where id = $1`, [gone]);
      const ended = await made();
      await alter(ended, { is_active: false });
      told.length = 0;
      expect(await outcome(work(id))).to.equal('Conflict');
      expect(told).to.deep.equal([]);
      await made();
      expect(await outcome(work(id))).to.equal('done');
    });
  }

  it('may be widened, renamed and prolonged also if it is the last admin’s', async () => {
    const id = await made(ADMIN, { expiresAt: later(1) });
    for (const changes of [{ name: 'last' }, { expires_at: later(2) }, { grants: [...PULL, ...ADMIN] }])
      expect(await outcome(alter(id, changes))).to.equal('done');
    expect(await outcome(alter(id, { expires_at: later(1) }))).to.equal('Conflict');
    expect(await outcome(alter(id, { expires_at: null }))).to.equal('done');
  });

  it('can’t take leave of each other at once, the last two admins', async () => {
    for (let round = 0; round < 10; round++) {
      await database.query('delete from api_keys');
      const ids = [await made(), await made()];
      const outcomes = await Promise.all(
        ids.map((id, at) => outcome(at === 0 ? remove(id) : alter(id, { read_only: true }))),
      );
      expect(outcomes.sort()).to.deep.equal(['Conflict', 'done']);
    }
  });

  it('are not removed if a start of the registry would make them again', async () => {
    await made();
    const id = await made();
    const { key } = await alter(id, {});
    expect(await outcome(remove(id, key.key_prefix))).to.equal('Conflict');
    expect(await outcome(remove(id, 'another'))).to.equal('done');
    expect(await outcome(remove(id))).to.equal('KeyUnknown');
    expect(await outcome(alter(id, { name: 'gone' }))).to.equal('KeyUnknown');
  });

  it('are listed by pages, the newest first, those that are active, and by their names', async () => {
    for (let index = 1; index <= 5; index++) await made(ADMIN, { name: `Key ${index}%` });
    const [first] = (await listKeyPage(database, { q: 'key 1%' }, { limit: 10 })).items;
    await alter(first?.id ?? '', { is_active: false });
    const names: string[] = [];
    for (let cursor: string | undefined; ; ) {
      const { items, next, total } = await listKeyPage(database, {}, { limit: 2, cursor, total: true });
      names.push(...items.map(({ name }) => name));
      expect(total).to.equal(5);
      if (next === null) break;
      cursor = next;
    }
    expect(names).to.deep.equal(['Key 5%', 'Key 4%', 'Key 3%', 'Key 2%', 'Key 1%']);
    const found = async (filters: { is_active?: boolean; q?: string }) =>
      (await listKeyPage(database, filters, { limit: 10 })).items.map(({ name }) => name);
    expect(await found({ is_active: false })).to.deep.equal(['Key 1%']);
    expect(await found({ is_active: true })).to.have.length(4);
    expect(await found({ q: 'KEY 3' })).to.deep.equal(['Key 3%']);
    expect(await found({ q: 'y%3' })).to.deep.equal([]);
  });
});
