import { type AddressInfo, createServer, type Server } from 'node:net';
import { expect } from 'chai';
import { connect, type Database } from '../../../src/database/connect.js';
import { GatheredLookups } from '../../../src/database/gathered.js';
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

describe('a connection that PostgreSQL ends when it is just there', () => {
  const message = (type: string, ...content: (string | number[])[]) => {
    const body = Buffer.concat(content.map((part) => Buffer.from(part as string)));
    const head = Buffer.alloc(5, type);
    head.writeInt32BE(4 + body.length, 1);
    return Buffer.concat([head, body]);
  };
  const LAST_WORDS = Buffer.concat([
    message('R', [0, 0, 0, 0]),
    message('Z', 'I'),
    message('E', 'SFATAL\0', 'C57P01\0', 'Mterminating connection due to administrator command\0', '\0'),
  ]);
  let server: Server;

  beforeEach(async () => {
    // In one piece: both are read in the same turn.
    server = createServer((socket) => socket.on('error', () => undefined).once('data', () => socket.end(LAST_WORDS)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterEach(async () => {
    await new Promise((resolve) => server.close(resolve));
  });

  it('fails the statement that wanted it, and nothing else', async () => {
    const { port } = server.address() as AddressInfo;
    const database = connect({ url: `postgres://a@127.0.0.1:${port}/a?sslmode=disable`, pool: 1, timeout: 2 });
    const error: unknown = await database.query('select 1').catch((reason: unknown) => reason);
    expect(isFailure(error, 'Unavailable')).to.equal(true);
    await database.close();
  });
});

describe('look-ups that come together', () => {
  const TEXT = `select k.n, k.key || '!' as value from unnest($1::text[]) with ordinality as k (key, n) where k.key <> 'none'`;

  /** A database that answers when it is told to. */
  function slow() {
    const asked: { keys: readonly string[]; answer: (fails?: Error) => void }[] = [];
    const lookups = new GatheredLookups<{ value: string }>(
      {
        query: <Row extends object>(_text: string, [keys]: readonly unknown[] = []) =>
          new Promise<Row[]>((resolve, reject) => {
            const rows = (keys as string[]).flatMap((key, at) =>
              key === 'none' ? [] : [{ n: at + 1, value: `${key}!` }],
            );
            const answer = (fails?: Error) => (fails ? reject(fails) : resolve(rows as Row[]));
            asked.push({ keys: keys as string[], answer });
          }),
      },
      TEXT,
    );
    return { asked, lookups };
  }
  const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

  it('are answered by one statement, each with its own row or none', async () => {
    const site = await createDatabase();
    const database = connect({ url: site.url, pool: 1, timeout: 20 });
    try {
      const lookups = new GatheredLookups<{ value: string }>(database, TEXT);
      const found = await Promise.all(['a', 'none', 'b', 'a'].map((key) => lookups.find(key)));
      expect(found.map((row) => row?.value)).to.deep.equal(['a!', undefined, 'b!', 'a!']);
    } finally {
      await database.close();
      await site.drop();
    }
  });

  it('begin after all of them came, and those that come later are asked anew', async () => {
    const { asked, lookups } = slow();
    const [first, second] = [lookups.find('a'), lookups.find('b')];
    await turn();
    const third = lookups.find('a');
    await turn();
    const waiting = ['c', 'd'].map((key) => lookups.find(key));
    await turn();
    expect(asked.map(({ keys }) => keys)).to.deep.equal([['a', 'b'], ['a']]);
    asked[0]?.answer();
    expect([await first, await second].map((row) => row?.value)).to.deep.equal(['a!', 'b!']);
    await turn();
    expect(asked[2]?.keys).to.deep.equal(['c', 'd']);
    for (const { answer } of asked) answer();
    expect((await third)?.value).to.equal('a!');
    expect((await Promise.all(waiting)).map((row) => row?.value)).to.deep.equal(['c!', 'd!']);
  });

  it('fail together, and the next ones are asked all the same', async () => {
    const { asked, lookups } = slow();
    const failing = ['a', 'b'].map((key) => lookups.find(key).catch((error: Error) => error.message));
    await turn();
    asked[0]?.answer(new Error('away'));
    expect(await Promise.all(failing)).to.deep.equal(['away', 'away']);
    const later = lookups.find('c');
    await turn();
    asked[1]?.answer();
    expect((await later)?.value).to.equal('c!');
  });
});
