import { createHash, randomUUID } from 'node:crypto';
import { expect } from 'chai';
import { S3Bucket } from '../../src/storage/s3/bucket.js';
import type { S3Options } from '../../src/storage/s3/client.js';
import { newSegmentKey } from '../../src/storage/segment-store.js';
import { Content } from '../faults/support/bytes.js';
import { Exchange, pull, send } from '../faults/support/exchange.js';
import { ask } from '../faults/support/oracle.js';
import { until } from '../faults/support/processes.js';
import { startServer, type TestServer } from '../support/server.js';
import { empty, placeIn, settingsOf } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';

const MiB = 1024 * 1024;
const PART = Buffer.alloc(1024);
const PART_MD5 = createHash('md5').update(PART).digest('base64');

describe('what nothing names in a bucket', () => {
  let ceph: Ceph;
  let place: S3Options;
  let server: TestServer;
  let bucket: S3Bucket;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
    place = placeIn(ceph);
    bucket = new S3Bucket(place);
    const environment = { ...settingsOf(place), REGISTRY_ORPHAN_INTERVAL: '1', REGISTRY_ORPHAN_AGE: '3' };
    server = await startServer({ environment });
  });
  after(async () => {
    await server?.dispose();
    bucket?.close();
    if (place) await empty(place);
  });

  const uploads = async () => {
    const names: string[] = [];
    for await (const { name } of bucket.uploads('')) names.push(name);
    return names;
  };
  const query = async <Row extends object>(text: string) =>
    await ask<Row>(server.environment.REGISTRY_DATABASE_URL ?? '', text);

  it('goes after its age, unfinished uploads among it, and what a row names stays, however old', async function () {
    this.timeout(180_000);
    // Named, and unfinished for as long as its client takes.
    const content = new Content('named', 40 * MiB);
    const path = (await send(server.host, 'POST', '/v2/orphans/blobs/uploads/'))?.headers.location ?? '';
    const patch = new Exchange(server.host, 'PATCH', path, { 'transfer-encoding': 'chunked' });
    await patch.write(content.part(0, 20 * MiB));
    await until('its upload has begun', async () => (await uploads()).length === 1);
    const [named = ''] = await uploads();
    expect(await query(`select from segments where key = '${named}'`)).to.have.length(1);

    const [object, unfinished, both] = [0, 1, 2].map((index) => newSegmentKey(randomUUID(), index));
    if (!object || !unfinished || !both) throw new Error('no keys');
    for (const key of [object, both]) await bucket.put(key, Buffer.from('stray'));
    for (const key of [unfinished, both]) {
      const upload = await bucket.begin(key);
      await bucket.putPart(key, upload, 1, PART, PART_MD5, new AbortController().signal);
    }
    expect(await uploads()).to.have.members([named, unfinished, both]);

    await until(
      'what nothing names is gone',
      async () =>
        (await uploads()).length === 1 &&
        (await Promise.all([object, both].map((key) => bucket.find(key)))).every((found) => found === undefined),
      120_000,
    );
    expect(await uploads()).to.deep.equal([named]);

    await patch.write(content.part(20 * MiB, 40 * MiB));
    patch.end();
    expect((await patch.answer)?.status).to.equal(202);
    expect((await send(server.host, 'PUT', `${path}?digest=${content.digest}`))?.status).to.equal(201);
    // Longer than the age it has been there, and the job has looked since.
    const looked = newSegmentKey(randomUUID(), 3);
    await bucket.put(looked, Buffer.from('stray'));
    await until('the job has looked', async () => (await bucket.find(looked)) === undefined, 120_000);
    const pulled = await pull(server.host, `/v2/orphans/blobs/${content.digest}`);
    expect(pulled).to.include({ status: 200, digest: content.digest, whole: true });
    expect(await uploads()).to.deep.equal([]);
  });
});
