import { expect } from 'chai';
import { KeyCheck } from '../../../src/auth/key-check.js';
import { KeyRows } from '../../../src/auth/key-rows.js';
import { newKey, newKeyId, parseKey } from '../../../src/auth/key-text.js';
import {
  createKey,
  findKeyHash,
  listKeys,
  matchesKey,
  noteUse,
  putAdminKey,
  revokeKey,
} from '../../../src/auth/keys.js';
import { LEASE_MS } from '../../../src/auth/lease.js';
import { Throttle } from '../../../src/auth/throttle.js';
import { connect, type Database } from '../../../src/database/connect.js';
import { isFailure } from '../../../src/errors.js';
import { UNHEARD } from '../../support/keys.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const COST = 4;
const ADDRESS = '192.0.2.1';
const PLENTY = 1_000_000;
const PULL = [{ repository: 'team/*', actions: ['pull' as const] }];

describe('keys', () => {
  let site: TestDatabase;
  let database: Database;

  before(async () => {
    site = await createDatabase();
    database = connect({ url: site.url, pool: 2, timeout: 5 });
  });
  after(async () => {
    await database.close();
    await site.drop();
  });

  const made = async (expiresAt?: Date) =>
    await createKey(database, { name: 'one', grants: PULL, readOnly: false, expiresAt }, COST, UNHEARD);
  const checkOf = (limits = { perAddress: PLENTY, perKey: PLENTY }) => {
    const rows = new KeyRows(database);
    return { rows, keys: new KeyCheck(rows, new Throttle(limits)) };
  };
  const outcome = async (keys: KeyCheck, text: string, address = ADDRESS) =>
    await keys.check(text, address).then(
      () => 'passed',
      (error: unknown) => (isFailure(error) ? error.failure : String(error)),
    );
  const untilLeasesEnd = async () => await new Promise((resolve) => setTimeout(resolve, LEASE_MS + 20));

  it('are found by their id, and an operator’s own choice is the key admin', () => {
    expect(parseKey('wh_ab12_se_cret')).to.deep.equal({ id: 'ab12', secret: 'se_cret' });
    expect(parseKey('correct horse battery')).to.deep.equal({ id: 'admin', secret: 'correct horse battery' });
    expect(parseKey(newKey('admin')).id).to.equal('admin');
    expect(newKey('admin')).not.to.equal(newKey('admin'));
    expect(newKeyId()).to.match(/^[a-z2-7]{12}$/);
  });

  it('pass with the right secret and no other, and only their hash is stored', async () => {
    const { id, text } = await made();
    const stored = await findKeyHash(database, id);
    expect(stored?.hash).to.match(/^\$2b\$04\$/);
    expect(stored?.hash).not.to.include(parseKey(text).secret);
    expect(await matchesKey(text, stored?.hash ?? '')).to.equal(true);
    const { keys } = checkOf();
    expect(await keys.check(text, ADDRESS)).to.deep.include({ id, name: 'one', grants: PULL, readOnly: false });
    for (const wrong of [`${text}x`, text.slice(0, -1), newKey(id), 'wh_nobody_secret', '', `wh_${id}_`])
      expect(await outcome(keys, wrong), wrong).to.equal('Unauthorized');
  });

  it('that passed or failed are remembered, so that bcrypt stays off the hot path', async () => {
    const { id, text } = await made();
    const { keys } = checkOf();
    await keys.check(text, ADDRESS);
    await outcome(keys, `wh_${id}_wrong`);
    const { checks } = keys.statistics();
    expect(checks).to.equal(2);
    for (let index = 0; index < 100; index++) await keys.check(text, ADDRESS);
    expect(await outcome(keys, `wh_${id}_wrong`)).to.equal('Unauthorized');
    expect(keys.statistics().checks).to.equal(checks);
  });

  it('that are presented many times at once are checked once', async () => {
    const { text } = await made();
    const { keys } = checkOf({ perAddress: 2, perKey: 2 });
    const answers = await Promise.all(Array.from({ length: 200 }, () => outcome(keys, text)));
    expect(new Set(answers)).to.deep.equal(new Set(['passed']));
    expect(keys.statistics().checks).to.equal(1);
  });

  it('that are longer than bcrypt looks are refused and not cut', async () => {
    const long = 'x'.repeat(72);
    await putAdminKey(database, `wh_long_${long}`, 'long', COST, UNHEARD);
    const { keys } = checkOf();
    expect((await keys.check(`wh_long_${long}`, ADDRESS)).id).to.equal('long');
    expect(await outcome(keys, `wh_long_${long}y`)).to.equal('Unauthorized');
    const stored = await putAdminKey(database, `wh_longer_${long}y`, 'longer', COST, UNHEARD).then(
      () => 'stored',
      () => 'refused',
    );
    expect(stored).to.equal('refused');
  });

  it('are checked one after the other', async () => {
    const key = { name: 'one', grants: PULL, readOnly: false, expiresAt: undefined };
    const slow = await createKey(database, key, 11, UNHEARD);
    const fast = await made();
    // Which of two rows comes first from the database is nobody's promise.
    const rows = [await new KeyRows(database).find(slow.id), await new KeyRows(database).find(fast.id)];
    const find = async (id: string) => rows[id === slow.id ? 0 : 1];
    const keys = new KeyCheck({ find } as KeyRows, new Throttle({ perAddress: PLENTY, perKey: PLENTY }));
    const order: string[] = [];
    await Promise.all(
      [slow, fast].map(async ({ id, text }) => {
        await keys.check(text, ADDRESS);
        order.push(id);
      }),
    );
    expect(order).to.deep.equal([slow.id, fast.id]);
  });

  it('wait in a line of bounded length while one is checked', async () => {
    const { id, text } = await made();
    const { keys } = checkOf();
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, index) => outcome(keys, `wh_${id}_wrong${index}`)),
    );
    const count = (what: string) => answers.filter((answer) => answer === what).length;
    expect(count('Unauthorized')).to.equal(64);
    expect(count('TooManyRequests')).to.equal(136);
    expect((await keys.check(text, ADDRESS)).id).to.equal(id);
  });

  it('stop within a lease after they are revoked, or at once when told, and stay so', async () => {
    const { id, text } = await made();
    const { keys, rows } = checkOf();
    await keys.check(text, ADDRESS);
    expect(await revokeKey(database, id, UNHEARD)).to.equal(true);
    rows.end(id);
    expect(await outcome(keys, text)).to.equal('Unauthorized');
    expect(await revokeKey(database, id, UNHEARD)).to.equal(false);
    const second = await made();
    await keys.check(second.text, ADDRESS);
    await revokeKey(database, second.id, UNHEARD);
    await untilLeasesEnd();
    expect(await outcome(keys, second.text)).to.equal('Unauthorized');
  });

  it('that are revoked or get another secret while theirs is checked do not pass', async () => {
    const { id, text } = await made();
    const row = await new KeyRows(database).find(id);
    for (const [then, expected] of [
      [row, 'passed'],
      [undefined, 'Unauthorized'],
      [{ ...row, hash: 'of another' }, 'Unauthorized'],
    ] as const) {
      const found = [row, then];
      const keys = new KeyCheck(
        { find: async () => found.shift() } as unknown as KeyRows,
        new Throttle({ perAddress: 9, perKey: 9 }),
      );
      expect(await outcome(keys, text)).to.equal(expected);
    }
  });

  it('stop when they expire', async () => {
    const { id, text } = await made(new Date(Date.now() + 300_000));
    const { keys } = checkOf();
    await keys.check(text, ADDRESS);
    await database.query(`update api_keys set expires_at = now() - interval '1 s' where key_prefix = $1`, [id]);
    await untilLeasesEnd();
    expect(await outcome(keys, text)).to.equal('Unauthorized');
  });

  it('that get another secret forget the former one', async () => {
    const { keys, rows } = checkOf();
    await putAdminKey(database, 'wh_turned_first', 'turned', COST, UNHEARD);
    await keys.check('wh_turned_first', ADDRESS);
    expect(await outcome(keys, 'wh_turned_second')).to.equal('Unauthorized');
    await putAdminKey(database, 'wh_turned_second', 'turned', COST, UNHEARD);
    rows.end('turned');
    expect(await outcome(keys, 'wh_turned_first')).to.equal('Unauthorized');
    expect(await outcome(keys, 'wh_turned_second')).to.equal('passed');
  });

  it('can not be revoked if there are none of that id, nor made without a name or for a time that is over', async () => {
    for (const [work, failure] of [
      [() => revokeKey(database, 'nobody', UNHEARD), 'KeyUnknown'],
      [() => made(new Date(0)), 'ParameterInvalid'],
      [
        () => createKey(database, { name: '', grants: [], readOnly: false, expiresAt: undefined }, COST, UNHEARD),
        'ParameterInvalid',
      ],
    ] as const) {
      const error: unknown = await work().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(isFailure(error) && error.failure).to.equal(failure);
    }
  });

  it('are listed without their hash, with their last use', async () => {
    const { id } = await made();
    const at = new Date('2026-01-02T03:04:05Z');
    await noteUse(database, new Map([[id, at]]));
    await noteUse(database, new Map([[id, new Date('2025-01-01T00:00:00Z')]]));
    const listed = (await listKeys(database)).find((key) => key.id === id);
    expect(listed).to.deep.include({ name: 'one', active: true, grants: PULL, lastUsedAt: at });
    expect(JSON.stringify(await listKeys(database))).not.to.match(/hash|\$2b/);
  });

  describe('that are guessed', () => {
    it('are slowed for the address and key, and others may still come in', async () => {
      const { id, text } = await made();
      const other = await made();
      const { keys } = checkOf({ perAddress: 100, perKey: 5 });
      const answers: string[] = [];
      for (let index = 0; index < 8; index++) answers.push(await outcome(keys, `wh_${id}_wrong${index}`));
      expect(answers).to.deep.equal([...Array(5).fill('Unauthorized'), ...Array(3).fill('TooManyRequests')]);
      expect(await outcome(keys, text)).to.equal('TooManyRequests');
      expect(await outcome(keys, text, '192.0.2.2')).to.equal('passed');
      expect(await outcome(keys, other.text)).to.equal('passed');
      // Known to be good by now, it is not a guess from anywhere.
      expect(await outcome(keys, text)).to.equal('passed');
    });

    it('are slowed for the address whatever ids are tried, also all at once and with remembered failures', async () => {
      const { keys } = checkOf({ perAddress: 10, perKey: 5 });
      const many = await Promise.all(Array.from({ length: 50 }, (_, index) => outcome(keys, `wh_id${index}_x`)));
      expect(many.filter((answer) => answer === 'Unauthorized')).to.have.length(10);
      const { keys: same } = checkOf({ perAddress: 10, perKey: 5 });
      const { id } = await made();
      const repeated: string[] = [];
      for (let index = 0; index < 7; index++) repeated.push(await outcome(same, `wh_${id}_wrong`));
      expect(repeated).to.deep.equal([...Array(5).fill('Unauthorized'), ...Array(2).fill('TooManyRequests')]);
    });

    it('are told apart from good keys, of which many from one address may come at once', async () => {
      const good = await Promise.all(Array.from({ length: 12 }, () => made()));
      // What a worker of many has for its share.
      const { keys } = checkOf({ perAddress: 1, perKey: 1 });
      const answers = await Promise.all(good.map(({ text }) => outcome(keys, text)));
      expect(answers).to.deep.equal(good.map(() => 'passed'));
    });

    it('are tried no oftener when they come at once, also where they wait behind one another', async () => {
      const { id } = await made();
      const { keys } = checkOf({ perAddress: 100, perKey: 5 });
      const many = await Promise.all(Array.from({ length: 50 }, (_, index) => outcome(keys, `wh_${id}_wrong${index}`)));
      expect(many.filter((answer) => answer === 'Unauthorized')).to.have.length(5);
      expect(many.filter((answer) => answer === 'TooManyRequests')).to.have.length(45);
      expect(keys.statistics().checks).to.equal(5);
    });

    it('are told apart from keys that could not be checked, for want of the database or of a place in the queue', async () => {
      const away = connect({ url: site.url, pool: 1, timeout: 1 });
      await away.close();
      let rows = new KeyRows(away);
      const find = async (id: string) => await rows.find(id);
      const keys = new KeyCheck({ find } as KeyRows, new Throttle({ perAddress: 100, perKey: 3 }));
      const { id, text } = await made();
      for (let index = 0; index < 10; index++) expect(await outcome(keys, text)).not.to.equal('TooManyRequests');
      rows = new KeyRows(database);
      expect(await outcome(keys, text)).to.equal('passed');

      const busy = new KeyCheck(new KeyRows(database), new Throttle({ perAddress: PLENTY, perKey: 70 }));
      const many = await Promise.all(Array.from({ length: 90 }, (_, index) => outcome(busy, `wh_${id}_${index}`)));
      expect(many.filter((answer) => answer === 'Unauthorized')).to.have.length(64);
      for (let index = 0; index < 6; index++)
        expect(await outcome(busy, `wh_${id}_again${index}`)).to.equal('Unauthorized');
      expect(await outcome(busy, `wh_${id}_again`)).to.equal('TooManyRequests');
    });

    it('take nothing from an allowance by being refused', async () => {
      const throttle = new Throttle({ perAddress: 2, perKey: 1 });
      for (const key of ['one', 'other']) expect(await throttle.count(ADDRESS, key)).to.equal(undefined);
      for (let index = 0; index < 5; index++) expect(await throttle.count(ADDRESS, 'third')).to.be.within(1, 60);
      expect(await throttle.wait(ADDRESS, 'third')).to.be.within(1, 60);
      const wider = new Throttle({ perAddress: 2, perKey: 1 });
      for (let index = 0; index < 5; index++) expect(await wider.wait(ADDRESS, 'one')).to.equal(undefined);
      expect(await wider.count(ADDRESS, 'one')).to.equal(undefined);
      for (let index = 0; index < 5; index++) expect(await wider.count(ADDRESS, 'one')).to.be.within(1, 60);
      expect(await wider.wait(ADDRESS, 'one')).to.be.within(1, 60);
      expect(await wider.wait(ADDRESS, 'other')).to.equal(undefined);
      expect(await wider.count(ADDRESS, 'other')).to.equal(undefined);
    });

    it('are counted by networks of IPv6', async () => {
      const { keys } = checkOf({ perAddress: 2, perKey: 2 });
      for (const host of ['::1', '::2']) await outcome(keys, 'wh_nobody_x', `2001:db8:0:1${host}`);
      expect(await outcome(keys, 'wh_nobody_x', '2001:db8:0:1:ffff::9')).to.equal('TooManyRequests');
      expect(await outcome(keys, 'wh_nobody_x', '2001:db8:0:2::1')).to.equal('Unauthorized');
    });
  });
});
