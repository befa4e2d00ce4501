import { setTimeout as sleep } from 'node:timers/promises';
import { randomUUID } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { isFailure, RegistryError } from '../../../src/errors.js';
import { expiryJob } from '../../../src/gc/expiry.js';
import { orphansJob } from '../../../src/gc/orphans.js';
import { removalsJob } from '../../../src/gc/removals.js';
import { createLog } from '../../../src/log.js';
import { digestOf } from '../../../src/oci/digest.js';
import { newSegmentKey, type SegmentKey, type SegmentStore } from '../../../src/storage/segment-store.js';
import { PassingStore } from '../../faults/races-stores.js';
import { silent } from '../../support/postgres.js';
import { until } from '../../faults/support/processes.js';
import { ACTOR, bodyOf, repository, type Rooms, Site } from '../../support/rooms.js';

const NAME = repository('team/model');
const BYTES = Buffer.from('weights');

describe('bytes that go', () => {
  let site: Site;
  let rooms: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    rooms = site.open();
  });
  afterEach(async () => await site.dispose());

  const removals = ({ delaySeconds = 0, store = rooms.store }: { delaySeconds?: number; store?: SegmentStore } = {}) =>
    removalsJob({
      ...{ ...rooms, store, log: silent, pause: rooms.pauses.point, everyMs: 1000 },
      ...{ delaySeconds, sharePercent: 100 },
    });
  const orphans = (ageSeconds: number) => orphansJob({ ...rooms, log: silent, everyMs: 1000, ageSeconds });
  const keys = async (): Promise<SegmentKey[]> => {
    const found: SegmentKey[] = [];
    for await (const key of rooms.store.list()) found.push(key);
    return found;
  };
  const count = async (table: string) =>
    (await rooms.database.query<{ n: number }>(`select count(*) as n from ${table}`))[0]?.n;

  async function upload(): Promise<{ id: string; repository: typeof NAME; actor: typeof ACTOR }> {
    const id = await rooms.registry.uploads.create(NAME, 'sha256', ACTOR);
    const target = { id, repository: NAME, actor: ACTOR };
    await rooms.registry.uploads.append(target, bodyOf([BYTES]));
    return target;
  }

  it('go with a session that is cancelled, and their row stays until they were absent twice', async () => {
    await rooms.registry.uploads.cancel(await upload());
    expect(await keys()).to.have.length(1);
    await removals({ delaySeconds: 3600 }).run();
    expect(await keys()).to.have.length(0);
    expect(await count('removals')).to.equal(1);
    await removals({ delaySeconds: 3600 }).run();
    expect(await count('removals'), 'not looked at again before its time').to.equal(1);
    await rooms.database.query('update removals set not_before = now()');
    await removals({ delaySeconds: 3600 }).run();
    expect(await count('removals')).to.equal(0);
    for (const table of ['segments', 'bodies', 'uploads']) expect(await count(table), table).to.equal(0);
  });

  it('go even when a stalled writer creates their object after the first removal', async () => {
    const target = await upload();
    const [key] = await keys();
    await rooms.registry.uploads.cancel(target);
    await removals().run();
    await writeFile(join(site.root, String(key)), 'late');
    await removals().run();
    expect(await keys()).to.have.length(0);
    expect(await count('removals'), 'absent only once since').to.equal(1);
    await removals().run();
    expect(await count('removals')).to.equal(0);
  });

  it('are forgotten only when the store says that nothing was there, and not the first time', async () => {
    class ScriptedStore extends PassingStore {
      readonly answers = [true, false, false, true];
      override remove(): Promise<boolean> {
        return Promise.resolve(this.answers.shift() ?? false);
      }
    }
    const store = new ScriptedStore(rooms.store);
    await rooms.registry.uploads.cancel(await upload());
    const job = removals({ store });
    for (const left of [1, 1, 1, 0]) {
      await job.run();
      expect(await count('removals'), `${store.answers.length} answers to come`).to.equal(left);
    }
  });

  it('do not wait for an object that can not be removed, which is tried again later', async () => {
    const kept: string[] = [];
    const stuck = new Set<string>();
    class StubbornStore extends PassingStore {
      override async remove(key: SegmentKey): Promise<boolean> {
        kept.push(key);
        if (stuck.has(key)) throw new RegistryError('Unavailable', 'the storage failed');
        return await super.remove(key);
      }
    }
    const lines: string[] = [];
    const log = createLog('error', { write: (line: string) => void lines.push(line) });
    const store = new StubbornStore(rooms.store);
    const job = removalsJob({
      ...rooms,
      store,
      log,
      pause: rooms.pauses.point,
      everyMs: 1000,
      delaySeconds: 0,
      sharePercent: 100,
    });
    for (let n = 0; n < 12; n++) await rooms.registry.uploads.cancel(await upload());
    const due = await rooms.database.query<{ key: string }>('select key from removals order by not_before');
    for (const { key } of due.slice(0, 4)) stuck.add(key);
    await job.run();
    expect(await keys(), 'only what can not be removed').to.have.members([...stuck]);
    const told = lines.map((line) => JSON.parse(line) as { object?: string; msg: string });
    expect(told.map(({ object }) => object)).to.have.members([...stuck]);
    await job.run();
    expect(await count('removals')).to.equal(4);
    expect(
      kept.filter((key) => stuck.has(key)),
      'not tried again before its time',
    ).to.have.length(4);
    stuck.clear();
    await rooms.database.query(`update removals set not_before = not_before - interval '6 minutes'`);
    await job.run();
    expect(await keys()).to.have.length(0);
  });

  it('end a batch where one after the other fails, and begin the next one with others', async () => {
    let tried = 0;
    class FailingStore extends PassingStore {
      override remove(): Promise<boolean> {
        tried += 1;
        return Promise.reject(new RegistryError('Unavailable', 'the storage failed'));
      }
    }
    for (let n = 0; n < 8; n++) await rooms.registry.uploads.cancel(await upload());
    const store = new FailingStore(rooms.store);
    const job = removals({ store });
    const failure = await job.run().catch((error: unknown) => error);
    expect(isFailure(failure, 'Unavailable')).to.equal(true);
    expect(tried).to.equal(5);
    await removals().run();
    expect(await keys(), 'those that were not tried').to.have.length(5);
  });

  it('take no more of the time than they may, and stop at once when the process does', async () => {
    class SlowStore extends PassingStore {
      override async remove(key: SegmentKey): Promise<boolean> {
        await sleep(40);
        return await super.remove(key);
      }
    }
    for (let n = 0; n < 6; n++) await rooms.registry.uploads.cancel(await upload());
    const store = new SlowStore(rooms.store);
    const jobOf = (sharePercent: number) =>
      removalsJob({
        ...rooms,
        store,
        log: silent,
        pause: rooms.pauses.point,
        everyMs: 1000,
        delaySeconds: 0,
        sharePercent,
      });
    const began = performance.now();
    await jobOf(20).run();
    expect(await keys()).to.have.length(0);
    expect(performance.now() - began).to.be.above(6 * 40 * 5);
    for (let n = 0; n < 2; n++) await rooms.registry.uploads.cancel(await upload());
    const stopping = new AbortController();
    const running = jobOf(1).run(stopping.signal);
    await until('the first is gone', async () => (await keys()).length === 1);
    stopping.abort();
    expect(await running).to.equal(false);
    expect(await keys(), 'left for the next').to.have.length(1);
  });

  it('are looked for again after the delay, or later if a request to the store may take effect for longer', async () => {
    await rooms.registry.uploads.cancel(await upload());
    for (const [delaySeconds, settleSeconds, wait] of [
      [100, 900, 900],
      [900, 100, 900],
    ] as const) {
      const store = new PassingStore(rooms.store, settleSeconds);
      await rooms.database.query('update removals set not_before = now(), absent_since = null');
      await removalsJob({
        ...rooms,
        store,
        log: silent,
        pause: rooms.pauses.point,
        everyMs: 1000,
        delaySeconds,
        sharePercent: 100,
      }).run();
      const [row] = await rooms.database.query<{ seconds: number }>(
        'select extract(epoch from not_before - now())::float as seconds from removals',
      );
      expect(row?.seconds).to.be.within(wait - 20, wait);
    }
  });

  it('go with a session that expired, and a committed one leaves only its row', async () => {
    await upload();
    const done = await upload();
    await rooms.registry.uploads.finish(done, digestOf('sha256', BYTES), undefined);
    await rooms.database.query(`update uploads set expires_at = now() - interval '1 second'`);
    await expiryJob(rooms.database, 1000).run();
    expect(await count('uploads')).to.equal(0);
    await removals().run();
    expect(await keys()).to.have.length(1);
    expect((await rooms.registry.blobs.get(NAME, digestOf('sha256', BYTES))).size).to.equal(BYTES.length);
  });

  it('are not taken for gone while their folder is not mounted', async () => {
    await rooms.registry.uploads.cancel(await upload());
    const marker = join(site.root, 'weighhouse.marker');
    await rename(marker, `${marker}.away`);
    const failure = await removals()
      .run()
      .catch((error: unknown) => error);
    expect(isFailure(failure, 'Unavailable')).to.equal(true);
    await rename(`${marker}.away`, marker);
    expect(await keys()).to.have.length(1);
    await removals().run();
    expect(await keys()).to.have.length(0);
  });

  it('are not removed while a segment names their key, whatever the queue says', async () => {
    await upload();
    const [key] = await keys();
    await rooms.database.query('insert into removals (key, not_before) values ($1, now())', [key]);
    await removals().run();
    expect(await keys()).to.deep.equal([key]);
  });

  it('are found when nothing names them, and go only after their time', async () => {
    await upload();
    const orphan = newSegmentKey(randomUUID(), 1);
    await writeFile(join(site.root, orphan), 'nobody');
    await orphans(3600).run();
    expect(await count('orphans')).to.equal(1);
    expect(await count('removals')).to.equal(0);
    await rooms.database.query(`update orphans set first_seen = now() - interval '2 hours'`);
    await orphans(3600).run();
    await removals().run();
    expect(await keys()).to.have.length(1);
    expect(await count('orphans')).to.equal(0);
  });

  it('are written down once when the store lists their key twice', async () => {
    const orphan = newSegmentKey(randomUUID(), 1);
    class RepeatingStore extends PassingStore {
      override async *list(): AsyncIterable<SegmentKey> {
        yield orphan;
        yield orphan;
      }
    }
    const store = new RepeatingStore(rooms.store);
    const job = orphansJob({ ...rooms, store, log: silent, everyMs: 1000, ageSeconds: 3600 });
    await job.run();
    await job.run();
    expect(await count('orphans')).to.equal(1);
  });

  it('stay when something names them again before their time, and in a restored database wait anew', async () => {
    const orphan = newSegmentKey(randomUUID(), 1);
    await writeFile(join(site.root, orphan), 'nobody');
    await orphans(3600).run();
    await rooms.database.query(`update orphans set first_seen = now() - interval '2 hours', cluster = 'another'`);
    await orphans(3600).run();
    expect(await keys()).to.have.length(1);
    expect(await count('removals')).to.equal(0);
    await rooms.database.query(
      `with b as (insert into bodies default values returning id) insert into segments (body, position, key, length) select id, 0, $1, 6 from b`,
      [orphan],
    );
    await rooms.database.query(`update orphans set first_seen = now() - interval '2 hours'`);
    await orphans(3600).run();
    expect(await count('orphans')).to.equal(0);
    expect(await count('removals')).to.equal(0);
  });
});
