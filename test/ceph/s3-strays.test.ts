import { expect } from 'chai';
import { straysJob } from '../../src/gc/strays.js';
import { adoptStore } from '../../src/registry/installation.js';
import type { S3Store } from '../../src/storage/s3/store.js';
import { bytesOf, push, read, sha256 } from '../faults/races-scene.js';
import { silent } from '../support/postgres.js';
import { type Rooms, Site } from '../support/rooms.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import { Scene } from './support/scene.js';

const MiB = 1024 * 1024;
const BYTES = bytesOf(9 * MiB, 1);

describe('uploads that were begun beside the one that became an object', () => {
  let ceph: Ceph;
  let scene: Scene;
  let site: Site;
  let store: S3Store;
  let rooms: Rooms;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
  });
  beforeEach(async () => {
    [site, scene] = await Promise.all([Site.make(), Scene.make(ceph)]);
    ({ store } = scene.open());
    rooms = site.open({ store: () => store });
    await adoptStore(rooms.database, store);
  });
  afterEach(async () => {
    await site.dispose();
    await scene.dispose();
  });

  async function begun(): Promise<string[]> {
    const bucket = scene.bucket();
    const found: string[] = [];
    for await (const { name } of bucket.uploads('')) found.push(name);
    bucket.close();
    return found;
  }

  const sweep = () => straysJob({ database: rooms.database, store, log: silent, everyMs: 1000 }).run();
  const keyOf = async () => (await rooms.database.query<{ key: string }>('select key from segments'))[0]?.key ?? '';

  it('are aborted, since S3 made one of which the answer was lost, and the object stays', async () => {
    scene.gateway.fate = ({ operation, before }) => (operation === 'Begin' && before === 0 ? 'lose-answer' : 'pass');
    await push(rooms, BYTES);
    expect(await begun()).to.have.length(1);
    await sweep();
    expect(await begun()).to.deep.equal([]);
    expect((await read(rooms, sha256(BYTES))).equals(BYTES)).to.equal(true);
  });

  it('stay if they have parts, which the object may be made of, or if the segment is not sealed', async () => {
    await push(rooms, BYTES);
    const key = await keyOf();
    const bucket = scene.bucket();
    const upload = await bucket.begin(key);
    const part = bytesOf(1000, 2);
    const { createHash } = await import('node:crypto');
    await bucket.putPart(
      key,
      upload,
      1,
      part,
      createHash('md5').update(part).digest('base64'),
      AbortSignal.timeout(60_000),
    );
    await sweep();
    expect(await begun()).to.deep.equal([key]);
    await bucket.abort(key, upload);
    await bucket.begin(key);
    bucket.close();
    await rooms.database.query('update segments set object_size = null');
    await sweep();
    expect(await begun()).to.deep.equal([key]);
    await rooms.database.query('update segments set object_size = length');
    await sweep();
    expect(await begun()).to.deep.equal([]);
    expect((await read(rooms, sha256(BYTES))).equals(BYTES)).to.equal(true);
  });
});
