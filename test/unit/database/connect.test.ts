import { expect } from 'chai';
import { connect, type Database } from '../../../src/database/connect.js';
import { isFailure } from '../../../src/errors.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

describe('connections to a PostgreSQL that takes no writes', () => {
  let site: TestDatabase;
  let database: Database;

  beforeEach(async () => {
    site = await createDatabase();
    database = connect({ url: site.url, pool: 3, timeout: 20 });
  });
  afterEach(async () => {
    await database.close();
    await site.drop();
  });

  /** Every connection of the pool, each held until all are. */
  async function backends(work = 'select pg_backend_pid() as pid'): Promise<number[]> {
    let arrived = 0;
    let all = () => {};
    const together = new Promise<void>((resolve) => {
      all = resolve;
    });
    return await Promise.all(
      Array.from({ length: 3 }, () =>
        database.transaction(async (transaction) => {
          const [row] = await transaction.query<{ pid: number }>(work);
          arrived += 1;
          if (arrived === 3) all();
          await together;
          return row?.pid ?? 0;
        }),
      ),
    );
  }

  it('are all thrown away when one of them finds it out, since those that read would not', async () => {
    const former = await backends();
    // As a primary that became a standby under its connections.
    await backends(`select pg_backend_pid() as pid, set_config('default_transaction_read_only', 'on', false)`);
    expect(await backends(), 'they are kept').to.have.members(former);
    const error = await database.query('insert into bodies default values').catch((thrown: unknown) => thrown);
    expect(isFailure(error, 'Unavailable'), String(error)).to.equal(true);
    await database.query('insert into bodies default values');
    expect((await backends()).filter((pid) => former.includes(pid))).to.deep.equal([]);
  });
});
