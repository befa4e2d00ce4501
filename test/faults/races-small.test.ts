import { expect } from 'chai';
import pg from 'pg';
import { recordChanges } from '../../src/gc/records.js';
import { recordBy } from '../../src/registry/changes.js';
import { bodyOf, type Rooms, Site } from '../support/rooms.js';
import { gather } from '../support/gather.js';
import { until } from './support/processes.js';
import {
  begin,
  bytesOf,
  NAME,
  OTHER,
  outcome,
  push,
  read,
  removalRows,
  segmentRows,
  sha256,
  stall,
  stillWaits,
  uploadRow,
} from './races-scene.js';

const BYTES = bytesOf(1_000, 1);
const DIGEST = sha256(BYTES);

describe('races of small uploads', () => {
  let site: Site;
  let one: Rooms;
  let two: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    const options = { inlineMaxBytes: BYTES.length, observers: [recordBy(recordChanges)] };
    one = site.open(options);
    two = site.open(options);
  });
  afterEach(async () => await site.dispose());

  const count = async (table: 'bodies' | 'blobs' | 'records' | 'segments') =>
    (await one.database.query(`select from ${table}`)).length;
  const files = async () => {
    const keys: string[] = [];
    for await (const key of one.store.list()) keys.push(key);
    return keys;
  };
  const finish = (rooms: Rooms, target: Awaited<ReturnType<typeof begin>>, bytes = BYTES) =>
    rooms.registry.uploads.finish(target, DIGEST, bodyOf([bytes], { length: bytes.length }));

  it('its bytes are in their row, with the record of the push, and no larger one’s', async () => {
    await finish(one, await begin(one));
    expect(await files()).to.have.length(0);
    expect(await count('records')).to.equal(2);
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
    const blob = await two.registry.blobs.getOpenable(NAME, DIGEST);
    expect(blob.wholeObject).to.equal(undefined);
    expect(await gather(await blob.open({ start: 10, end: 20 }))).to.deep.equal(BYTES.subarray(10, 20));
    const larger = bytesOf(BYTES.length + 1, 2);
    expect(await read(one, await push(one, larger))).to.deep.equal(larger);
    expect(await files()).to.have.length(1);
  });

  it('as long as a process of an older version listens its bytes are in the store', async () => {
    const application_name = 'weighhouse listener 0008_older.sql';
    const older = new pg.Client({ connectionString: site.testDatabase.url, application_name });
    await older.connect();
    try {
      await finish(one, await begin(one));
      expect(await files()).to.have.length(1);
    } finally {
      await older.end();
    }
    await until('the older one is gone', async () => {
      const rest = await one.database.query('select from pg_stat_activity where application_name = $1', [
        application_name,
      ]);
      return rest.length === 0;
    });
    const after = bytesOf(100, 3);
    const target = await begin(two);
    await two.registry.uploads.finish(target, sha256(after), bodyOf([after], { length: after.length }));
    expect(await read(one, sha256(after))).to.deep.equal(after);
    expect(await files()).to.have.length(1);
  });

  it('a blob that is there is not stored again, and its link is renewed once a minute', async () => {
    await finish(one, await begin(one));
    await one.database.query(`update repository_blobs set linked_at = now() - interval '50 seconds'`);
    const linked = () =>
      one.database.query(`select from repository_blobs where linked_at > now() - interval '5 seconds'`);
    await finish(two, await begin(two));
    expect(await linked()).to.have.length(0);
    await one.database.query(`update repository_blobs set linked_at = now() - interval '70 seconds'`);
    await finish(two, await begin(two));
    expect(await linked()).to.have.length(1);
    await finish(two, await begin(two, OTHER));
    expect(await linked()).to.have.length(2);
    expect([await count('blobs'), await count('bodies'), await count('segments')]).to.deep.equal([1, 1, 1]);
    expect(await removalRows(one)).to.have.length(0);
  });

  it('two commits of one digest at once both succeed, and one copy stays', async () => {
    const [first, second] = [await begin(one), await begin(two)];
    let commit = () => {};
    const free = new Promise<void>((resolve) => {
      commit = resolve;
    });
    let made = () => {};
    const there = new Promise<void>((resolve) => {
      made = resolve;
    });
    const former = one.database.transaction(async (transaction) => {
      const [body] = await transaction.query<{ id: number }>('insert into bodies default values returning id');
      await transaction.query('insert into blobs (digest, size, body) values ($1, $2, $3)', [
        DIGEST,
        BYTES.length,
        body?.id,
      ]);
      await transaction.query(
        `insert into segments (body, key, position, length, object_size, bytes) values ($1, 'k', 1, $2, $2, $3)`,
        [body?.id, BYTES.length, BYTES],
      );
      made();
      await free;
    });
    await there;
    const later = Promise.all([finish(one, first), finish(two, second)]);
    expect(await stillWaits(later)).to.equal(true);
    commit();
    await former;
    await later;
    expect([await count('blobs'), await count('bodies')]).to.deep.equal([1, 1]);
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
  });

  it('a final PUT that is sent twice at once, and once more, is answered alike', async () => {
    const target = await begin(one);
    const held = one.pauses.hold('upload:before-commit');
    const former = finish(one, target);
    await held.reached;
    await finish(two, target);
    held.release();
    await former;
    await finish(two, target);
    expect([await count('blobs'), await count('records')]).to.deep.equal([1, 2]);
  });

  it('a commit after a cancel commits nothing', async () => {
    const target = await begin(one);
    const held = one.pauses.hold('upload:before-commit');
    const commit = outcome(finish(one, target));
    await held.reached;
    await two.registry.uploads.cancel(target);
    held.release();
    expect(await commit).to.equal('UploadUnknown');
    expect([await count('blobs'), await count('bodies'), await count('records')]).to.deep.equal([0, 0, 0]);
  });

  it('a session that was taken meanwhile is committed with its bytes, or not', async () => {
    const target = await begin(one);
    const held = one.pauses.hold('upload:before-commit');
    const commit = finish(one, target);
    await held.reached;
    await two.registry.uploads.append(target, bodyOf([bytesOf(500, 3)]));
    held.release();
    expect(await outcome(commit)).to.equal('DigestInvalid');
    expect(await uploadRow(one, target.id)).to.include({ offset: 500 });
  });

  it('a blob that is condemned is revived, and one that is quarantined gets other bytes', async () => {
    await finish(one, await begin(one));
    await one.database.query('update repository_blobs set condemned_at = now()');
    expect(await outcome(one.registry.blobs.get(NAME, DIGEST))).to.equal('BlobUnknown');
    await finish(two, await begin(two));
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
    await one.database.query('update blobs set quarantined_at = now()');
    await finish(two, await begin(two));
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
    expect(await count('bodies')).to.equal(1);
    expect(await removalRows(one)).to.have.length(0);
  });

  it('a body that breaks off is kept as far as it came, and a wrong one is not', async () => {
    const target = await begin(one);
    const client = stall();
    const broken = outcome(
      one.registry.uploads.finish(
        target,
        DIGEST,
        bodyOf([BYTES.subarray(0, 400), client.wait], { length: BYTES.length }),
      ),
    );
    await client.reached;
    client.breakOff();
    expect(await broken).to.equal('ClientGone');
    expect(await uploadRow(one, target.id)).to.include({ offset: 400 });
    const other = await begin(one);
    expect(await outcome(finish(one, other, bytesOf(BYTES.length, 9)))).to.equal('DigestInvalid');
    expect(await uploadRow(one, other.id)).to.include({ offset: 0 });
    expect(await segmentRows(one, other.id)).to.have.length(0);
    await finish(one, other);
    expect(await read(one, DIGEST)).to.deep.equal(BYTES);
  });
});
