import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import type { S3Options } from '../../src/storage/s3/client.js';
import { ask } from '../faults/support/oracle.js';
import { until } from '../faults/support/processes.js';
import { begin, bytesOf, push, pushChunks, read, sha256 } from '../faults/races-scene.js';
import { bodyOf } from '../support/rooms.js';
import { startServer, type TestServer } from '../support/server.js';
import { settingsOf } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import { compare } from './support/compare.js';
import { AT_ONCE, dieOverObjects, leaveUpload, leftovers } from './support/leftover.js';
import { Scene } from './support/scene.js';
import { keysOf, type Process, StraysScene, sweeperOf } from './support/strays.js';

const MiB = 1024 * 1024;
const BYTES = bytesOf(9 * MiB, 1);
const DIGEST = sha256(BYTES);

describe('uploads that are listed beside the one that became an object', () => {
  let ceph: Ceph;
  let strays: StraysScene;
  let rooms: Process;

  before(async function () {
    this.timeout(500_000);
    ceph = await sharedCeph(this);
  });
  beforeEach(async () => {
    strays = await StraysScene.make(ceph);
    rooms = strays.open();
  });
  afterEach(async () => await strays.dispose());

  const sweep = async () => await sweeperOf(rooms).run();

  it('are aborted if they never got a part, and the object stays', async () => {
    const { gateway } = strays.scene;
    gateway.fate = ({ operation, before }) => (operation === 'Begin' && before === 0 ? 'lose-answer' : 'pass');
    await push(rooms, BYTES);
    const keys = await keysOf(rooms, DIGEST);
    expect(await strays.begun()).to.deep.equal(keys);
    await sweep();
    expect(await strays.begun()).to.deep.equal([]);
    expect(await keysOf(rooms, DIGEST)).to.deep.equal(keys);
    expect((await read(rooms, DIGEST)).equals(BYTES)).to.equal(true);
  });

  it('stay as long as the segment is not sealed', async () => {
    await push(rooms, BYTES);
    const [key = ''] = await keysOf(rooms, DIGEST);
    const bucket = strays.scene.bucket();
    await bucket.begin(key);
    bucket.close();
    await rooms.database.query('update segments set object_size = null');
    await sweep();
    expect(await strays.begun()).to.deep.equal([key]);
    await rooms.database.query('update segments set object_size = length');
    await sweep();
    expect(await strays.begun()).to.deep.equal([]);
  });

  it('are never aborted while a row names their key, if they have parts: the blob is written anew under another', async () => {
    await push(rooms, BYTES);
    const [key] = await keysOf(rooms, DIGEST);
    if (!key) throw new Error('the blob has no segment');
    await leaveUpload(strays.scene.place, key);
    const sweeper = sweeperOf(rooms);
    expect(await sweeper.run()).to.equal(false);
    expect(sweeper.outcomes).to.deep.equal(['done']);
    const [made] = await keysOf(rooms, DIGEST);
    expect(made).not.to.equal(key);
    expect(await leftovers(strays.scene.place), 'for those who read it').to.deep.equal([key]);
    await sweeper.run();
    expect(sweeper.outcomes, 'once').to.have.length(1);
    expect(strays.scene.gateway.count('Abort')).to.equal(0);
    await strays.expectNothingElse(rooms);
    expect(await keysOf(rooms, DIGEST)).to.deep.equal([made]);
    expect((await read(rooms, DIGEST)).equals(BYTES)).to.equal(true);
  });

  it('have the blob written anew as a whole if it is several objects', async () => {
    const chunks = [bytesOf(9 * MiB, 2), bytesOf(8 * MiB, 3), bytesOf(7 * MiB, 4)];
    const digest = await pushChunks(rooms, chunks);
    const keys = await keysOf(rooms, digest);
    expect(keys).to.have.length(3);
    for (const key of keys.slice(1)) await leaveUpload(strays.scene.place, key);
    const sweeper = sweeperOf(rooms);
    await sweeper.run();
    expect(sweeper.outcomes).to.deep.equal(['done']);
    expect(await keysOf(rooms, digest)).to.have.length(1);
    await strays.expectNothingElse(rooms);
    expect(sha256(await read(rooms, digest))).to.equal(digest);
  });

  it('wait while their segment is of an open session, which either becomes a blob or goes', async () => {
    const first = bytesOf(9 * MiB, 5);
    const sessions = [await begin(rooms), await begin(rooms)];
    for (const target of sessions) await rooms.registry.uploads.append(target, bodyOf([first], { from: 0 }));
    const keys = await rooms.database.query<{ key: string }>('select key from segments order by key');
    for (const { key } of keys) await leaveUpload(strays.scene.place, key as never);
    const sweeper = sweeperOf(rooms);
    await sweeper.run();
    expect(sweeper.outcomes).to.deep.equal([]);
    expect(await leftovers(strays.scene.place)).to.deep.equal(keys.map(({ key }) => key));
    const [committed, cancelled] = sessions;
    if (!committed || !cancelled) throw new Error('no session');
    await rooms.registry.uploads.cancel(cancelled);
    const digest = sha256(first, BYTES);
    await rooms.registry.uploads.finish(committed, digest, bodyOf([BYTES], { from: first.length }));
    await sweeper.run();
    expect(sweeper.outcomes).to.deep.equal(['done']);
    await strays.expectNothingElse(rooms);
    expect(sha256(await read(rooms, digest))).to.equal(digest);
  });
});

describe('a gateway that dies when it has published an object', function () {
  this.timeout(500_000);
  let ceph: Ceph;
  let scene: Scene;
  let server: TestServer | undefined;

  before(async function () {
    ceph = await sharedCeph(this);
    scene = await Scene.make(ceph);
  });
  after(async () => {
    await server?.dispose();
    await scene?.dispose();
  });

  it('leaves nothing for good, also where compaction is off', async () => {
    const { gateway } = scene;
    const place: S3Options = { ...scene.place, endpoint: gateway.endpoint };
    server = await startServer({ environment: { ...settingsOf(place), REGISTRY_READ_GRACE: '1' } });
    const url = server.environment.REGISTRY_DATABASE_URL ?? '';
    const pushed: Buffer[] = [];
    const pushOne = async (bytes: Buffer) => {
      const begun = await server?.request('POST', '/v2/team/model/blobs/uploads/');
      const path = `${begun?.headers.get('location')}?digest=${sha256(bytes)}`;
      if ((await server?.request('PUT', path, { body: bytes }))?.status === 201) pushed.push(bytes);
    };
    /** Those of blobs. */
    const left = async () => {
      const { ofBlobs } = await compare(url, scene.place);
      return (await leftovers(scene.place)).filter((key) => ofBlobs.includes(key as never));
    };
    for (let round = 1; (await left()).length === 0; round++) {
      expect(round, 'rounds without such an object').to.be.below(25);
      const contents = Array.from({ length: AT_ONCE }, (_, index) => bytesOf(9 * MiB, 100 * round + index));
      await Promise.all([dieOverObjects(ceph, gateway, scene.place), ...contents.map(pushOne)]);
    }
    const keys = await left();
    // It looks for them soon after a start, and then once a day.
    await server.stop();
    await ask(url, 'update uploads set expires_at = now() where committed_digest is null');
    await server.start();
    const over = async () => {
      const { removals, unnamed, uploads, objects } = await compare(url, scene.place);
      return removals.length + unnamed.length + uploads.length === 0 && !keys.some((key) => objects.has(key));
    };
    await until('nothing is left', over, 120_000);
    const { objects, ofBlobs } = await compare(url, scene.place);
    expect([...objects].sort()).to.deep.equal([...ofBlobs].sort());
    expect(ofBlobs).to.have.length(pushed.length);
    // What nobody shares any more leaves the disks, too.
    const conf = ['--conf', join(ceph.folder, 'ceph.conf'), '--name', 'client.rgw'];
    await promisify(execFile)('radosgw-admin', [...conf, 'gc', 'process', '--include-all']);
    for (const bytes of pushed) {
      const answer = await server.request('GET', `/v2/team/model/blobs/${sha256(bytes)}`);
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).to.equal(true);
    }
    expect(await server.log()).to.include('the gateway died over a blob');
  });
});
