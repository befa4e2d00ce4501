import { expect } from 'chai';
import { connect, type Database } from '../../../src/database/connect.js';
import { isFailure } from '../../../src/errors.js';
import { answersJob, changeOnce } from '../../../src/metadata/idempotency.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

describe('answers that are kept for an Idempotency-Key', () => {
  let place: TestDatabase;
  let database: Database;
  before(async () => {
    place = await createDatabase();
    database = connect({ url: place.url, pool: 2, timeout: 10 });
  });
  after(async () => {
    await database.close();
    await place.drop();
  });

  let times = 0;
  const ask = async (key: string, bodyDigest = 'a', actor = 'one', route = 'createModel /models') => {
    const answer = await changeOnce(database, { actor, route, key, bodyDigest }, async () =>
      Promise.resolve({ status: 201, body: { time: ++times } }),
    );
    return (answer.body as { time: number }).time;
  };
  const refused = async (work: Promise<unknown>) =>
    await work.then(
      () => undefined,
      (error: unknown) => isFailure(error, 'Invalid') && error.detail?.issues,
    );
  const age = async (key: string, interval: string) =>
    await database.query(`update idempotency_keys set created_at = now() - $2::interval where key = $1`, [
      key,
      interval,
    ]);
  const keys = async () =>
    (await database.query<{ key: string }>('select key from idempotency_keys order by key')).map(({ key }) => key);

  it('are for one key, one route and one body', async () => {
    const first = await ask('same');
    expect(await ask('same')).to.equal(first);
    expect(await refused(ask('same', 'b'))).to.have.nested.property('[0].loc[1]', 'Idempotency-Key');
    expect(await ask('same', 'b', 'another'), 'of another caller').to.equal(first + 1);
    expect(await ask('same', 'b', 'one', 'createRelease /releases'), 'on another route').to.equal(first + 2);
  });

  it('hold for 24 hours: then the same key is a new change, with whatever body', async () => {
    const first = await ask('day');
    await age('day', '23 hours 59 minutes');
    expect(await ask('day')).to.equal(first);
    await age('day', '24 hours 1 minute');
    const second = await ask('day', 'b');
    expect(second).to.be.greaterThan(first);
    expect(await ask('day', 'b')).to.equal(second);
  });

  it('are forgotten by a job when they hold no longer', async () => {
    await database.query('delete from idempotency_keys');
    for (const key of ['old', 'young']) await ask(key);
    await age('old', '24 hours 1 minute');
    await age('young', '23 hours 59 minutes');
    expect(await answersJob(database, 1_000).run()).to.equal(false);
    expect(await keys()).to.deep.equal(['young']);
  });
});
