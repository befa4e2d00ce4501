import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { connect, type Database } from '../../../src/database/connect.js';
import { type Listener, listen, type Watch } from '../../../src/database/notify.js';
import { until } from '../../faults/support/processes.js';
import { createDatabase, silent, type TestDatabase } from '../../support/postgres.js';
import { PostgresWay } from '../../support/postgres-way.js';

const WATCH: Watch = { askMs: 50, answerMs: 500, silentMs: 1_000 };
const PATIENT: Watch = { askMs: 50, answerMs: 60_000, silentMs: 60_000 };

describe('the listening connection', () => {
  let site: TestDatabase;
  let way: PostgresWay;
  let database: Database;
  const listeners: Listener[] = [];

  beforeEach(async () => {
    site = await createDatabase({ empty: true });
    way = await PostgresWay.to(site.url);
    database = connect({ url: site.url, pool: 2, timeout: 20 });
  });
  afterEach(async () => {
    await Promise.all(listeners.splice(0).map((listener) => listener.close()));
    way.close();
    await database.close();
    await site.drop();
  });

  /** A listener with what it heard: payloads, and gaps. */
  async function hear(url: string, watch: Watch): Promise<{ listener: Listener; heard: string[] }> {
    const listener = listen(url, silent, watch);
    listeners.push(listener);
    const heard: string[] = [];
    listener.onGap(() => heard.push('gap'));
    await listener.on('news', (payload) => heard.push(payload));
    return { listener, heard };
  }
  const connections = async (): Promise<number[]> => {
    const rows = await database.query<{ pid: number }>(
      `select pid from pg_stat_activity where application_name like 'weighhouse listener%' and datname = current_database()`,
    );
    return rows.map(({ pid }) => pid);
  };
  const notify = async (text: string) => await database.query('select pg_notify($1, $2)', ['news', text]);
  /** Notifies until it is heard: before the connection listens again nobody hears. */
  const untilHeard = async (heard: string[], text: string) =>
    await until('a notification is heard', async () => {
      await notify(text);
      return heard.includes(text);
    });

  it('tells of a gap when PostgreSQL ends it and of another when it listens again, and hears again', async () => {
    const { heard } = await hear(site.url, PATIENT);
    await untilHeard(heard, 'first');
    heard.length = 0;
    // It may have been notified more often than it had to be.
    const gaps = () => heard.filter((what) => what === 'gap').length;
    await database.query('select pg_terminate_backend($1::int)', [(await connections())[0]]);
    await until('the loss is told', () => gaps() > 0);
    await until('the new connection is told', () => gaps() > 1);
    expect(gaps()).to.equal(2);
    await untilHeard(heard, 'second');
  });

  it('counts as lost when its questions are not answered, though nothing ended it', async () => {
    const { listener, heard } = await hear(way.url, WATCH);
    await untilHeard(heard, 'first');
    expect(await listener.tryLock('work')).to.equal(true);
    heard.length = 0;
    way.hush();
    await until('the loss is told', () => heard.includes('gap'));
    expect(await listener.tryLock('work')).to.equal(false);
    way.speak();
    await untilHeard(heard, 'second');
    await until('the lock can be had again', async () => await listener.tryLock('work'));
  });

  it('gives its locks to another when its process stands still, though its connection stays open', async () => {
    // Nothing of it arrives any more, as of a process that was stopped; for itself all is well.
    const stopped = await hear(way.url, { ...PATIENT, silentMs: 1_000 });
    const other = await hear(site.url, PATIENT);
    await until('the first has the lock', async () => await stopped.listener.tryLock('work'));
    expect(await other.listener.tryLock('work')).to.equal(false);
    way.hush();
    await until('the other has the lock', async () => await other.listener.tryLock('work'));
    way.speak();
    await until('the first has noticed', async () => !(await stopped.listener.tryLock('work')));
  });

  it('closes at once on a way where nothing is answered', async () => {
    const { listener } = await hear(way.url, PATIENT);
    await until('it is connected', async () => (await connections()).length === 1);
    way.hush();
    await listener.close();
  });

  it('closes at once while a question is not answered', async () => {
    const { listener } = await hear(way.url, PATIENT);
    await until('it is connected', async () => (await connections()).length === 1);
    way.hush();
    await sleep(4 * PATIENT.askMs);
    await listener.close();
  });
});
