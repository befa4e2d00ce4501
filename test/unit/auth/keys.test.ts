import { expect } from 'chai';
import { findKeyHash, Keys, matchesKey, newKey, parseKey, putKey } from '../../../src/auth/keys.js';
import { connect, type Database } from '../../../src/database/connect.js';
import { isFailure } from '../../../src/errors.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const COST = 4;

describe('keys', () => {
  let site: TestDatabase;
  let database: Database;
  let queries = 0;

  before(async () => {
    site = await createDatabase();
    const pool = connect({ url: site.url, pool: 2, timeout: 5 });
    database = {
      query: (text, values) => {
        queries += 1;
        return pool.query(text, values);
      },
      transaction: (work) => pool.transaction(work),
      close: () => pool.close(),
    };
  });
  after(async () => {
    await database.close();
    await site.drop();
  });

  const refusal = async (keys: Keys, text: string) =>
    await keys.authenticate(text).then(
      () => 'passed',
      (error: unknown) => (isFailure(error) ? error.failure : String(error)),
    );

  it('are found by their id, and an operator’s own choice is the key admin', () => {
    expect(parseKey('wh_ab12_se_cret')).to.deep.equal({ id: 'ab12', secret: 'se_cret' });
    expect(parseKey('correct horse battery')).to.deep.equal({ id: 'admin', secret: 'correct horse battery' });
    expect(parseKey(newKey('admin')).id).to.equal('admin');
    expect(newKey('admin')).not.to.equal(newKey('admin'));
  });

  it('pass with the right secret and no other, and only their hash is stored', async () => {
    const key = newKey('one');
    await putKey(database, key, 'one', COST);
    const hash = await findKeyHash(database, 'one');
    expect(hash).to.match(/^\$2b\$04\$/);
    expect(hash).not.to.include(parseKey(key).secret);
    expect(await matchesKey(key, hash ?? '')).to.equal(true);
    const keys = new Keys(database);
    expect((await keys.authenticate(key)).id).to.equal('one');
    for (const wrong of [`${key}x`, key.slice(0, -1), newKey('one'), 'wh_nobody_secret', '', 'wh_one_']) {
      expect(await refusal(keys, wrong), wrong).to.equal('Unauthorized');
    }
  });

  it('that passed or failed are remembered, so that bcrypt stays off the hot path', async () => {
    const key = newKey('two');
    await putKey(database, key, 'two', COST);
    const keys = new Keys(database);
    await keys.authenticate(key);
    await refusal(keys, 'wh_two_wrong');
    const before = queries;
    for (let index = 0; index < 100; index++) await keys.authenticate(key);
    expect(await refusal(keys, 'wh_two_wrong')).to.equal('Unauthorized');
    expect(queries).to.equal(before);
  });

  it('that are longer than bcrypt looks are refused and not cut', async () => {
    const long = 'x'.repeat(72);
    await putKey(database, `wh_long_${long}`, 'long', COST);
    const keys = new Keys(database);
    expect((await keys.authenticate(`wh_long_${long}`)).id).to.equal('long');
    expect(await refusal(keys, `wh_long_${long}y`)).to.equal('Unauthorized');
    const stored = await putKey(database, `wh_longer_${long}y`, 'longer', COST).then(
      () => 'stored',
      () => 'refused',
    );
    expect(stored).to.equal('refused');
  });

  it('wait in a line of bounded length while one is checked', async () => {
    const key = newKey('three');
    await putKey(database, key, 'three', COST);
    const keys = new Keys(database);
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, index) => refusal(keys, `wh_three_wrong${index}`)),
    );
    const count = (what: string) => answers.filter((answer) => answer === what).length;
    expect(count('Unauthorized')).to.equal(64);
    expect(count('TooManyRequests')).to.equal(136);
    expect((await keys.authenticate(key)).id).to.equal('three');
  });
});
