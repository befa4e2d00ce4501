import { createHash } from 'node:crypto';
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  type LifecycleRule,
  PutBucketLifecycleConfigurationCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { RegistryError } from '../../src/errors.js';
import {
  agreed,
  describeSegmentStore,
  failureOf,
  never,
  newKey,
  pattern,
  piecesOf,
  sourceOf,
  Witness,
} from '../unit/storage/segment-store-contract.js';
import { until } from '../faults/support/processes.js';
import { empty, openStore, placeIn } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import type { Fate } from './support/gateway.js';
import { put, read, Scene } from './support/scene.js';

const MiB = 1024 * 1024;
const PART = 8 * MiB;

let ceph: Ceph;

before(async function () {
  this.timeout(300_000);
  ceph = await sharedCeph(this);
});

async function make(memory?: number) {
  const place = placeIn(ceph);
  const { store, budget } = openStore(place, memory === undefined ? {} : { memory });
  await store.mark('marker');
  return {
    store,
    dispose: async () => {
      store.close();
      expect(budget.free).to.equal(budget.total);
      await empty(place);
    },
  };
}

describeSegmentStore('S3', () => make());

describe('segments in a bucket', () => {
  let scene: Scene;

  beforeEach(async () => {
    scene = await Scene.make(ceph);
  });
  afterEach(async () => await scene.dispose());

  it('are one PUT when they are small, and a multipart upload of the same name when not', async () => {
    const { store } = scene.open();
    await put(store, pattern(100_000));
    await put(store, pattern(PART), { expected: true });
    expect(scene.gateway.seen.map(({ operation }) => operation)).to.deep.equal(['Head', 'Put', 'Head', 'Put']);
    const { key, sealed } = await put(store, pattern(PART + 1));
    expect(sealed).to.deep.equal({ size: PART + 1, objectSize: PART + 1, state: null });
    expect(scene.gateway.count('Part')).to.equal(2);
    expect(scene.gateway.count('Complete')).to.equal(1);
    expect(scene.gateway.count('Put')).to.equal(2);
    expect((await read(store, key, 0, PART + 1)).equals(pattern(PART + 1))).to.equal(true);
  });

  it('go up several parts at a time', async () => {
    const { store } = scene.open();
    let four = () => {};
    const together = new Promise<void>((resolve) => {
      four = resolve;
    });
    scene.gateway.fate = async ({ operation }): Promise<Fate> => {
      if (operation === 'Part' && scene.gateway.count('Part') === 4) four();
      // Nobody is answered before four are there.
      if (operation === 'Part') await together;
      return 'pass';
    };
    const bytes = pattern(5 * PART);
    const { key } = await put(store, bytes);
    expect((await read(store, key, 0, bytes.length)).equals(bytes)).to.equal(true);
  });

  it('slow their source down when S3 takes nothing, within the memory budget', async () => {
    const { store, budget } = scene.open({ memory: 4 * PART });
    let go = () => {};
    const free = new Promise<void>((resolve) => {
      go = resolve;
    });
    scene.gateway.fate = async ({ operation }): Promise<Fate> => {
      if (operation === 'Part') await free;
      return 'pass';
    };
    const bytes = pattern(8 * PART);
    const witness = new Witness();
    const key = newKey();
    const segment = await store.begin(key);
    const writing = segment.write(sourceOf(piecesOf(bytes, 100_000)), never, witness);
    await until('two parts are gathered', () => witness.size >= 2 * PART);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    // Two gathered parts are half of the budget, and the beginning of a third is in a request.
    expect(witness.size).to.be.at.most(4 * PART);
    expect(budget.free).to.be.at.least(0);
    go();
    await writing;
    await segment.seal(agreed);
    await segment.close();
    expect((await read(store, key, 0, bytes.length)).equals(bytes)).to.equal(true);
  });

  for (const [what, expected, objectSize] of [
    ['exactly when their length is announced', true, 20 * MiB + 1],
    ['filled up to the end of a part when it is not', false, 3 * PART],
  ] as const) {
    it(`are streamed where there is no memory to gather a part, ${what}`, async () => {
      const { store } = scene.open({ memory: MiB });
      const bytes = pattern(20 * MiB + 1);
      const { key, sealed, witness } = await put(store, bytes, { expected });
      expect(sealed).to.deep.equal({ size: bytes.length, objectSize, state: null });
      expect(witness.reports.map(({ size }) => size)).to.include.oneOf([PART, 2 * PART]);
      expect(await store.stat(key)).to.deep.equal({ size: objectSize });
      expect((await read(store, key, 0, bytes.length)).equals(bytes)).to.equal(true);
    });
  }

  it('keep what passed when a streamed part breaks off', async () => {
    const { store } = scene.open({ memory: MiB });
    const bytes = pattern(3 * MiB);
    const key = newKey();
    const segment = await store.begin(key, 6 * MiB);
    const broken = () => Promise.reject(new RegistryError('ClientGone', 'gone'));
    const source = sourceOf([...piecesOf(bytes, 100_000), broken]);
    expect(await failureOf(segment.write(source, never, new Witness()))).to.equal('ClientGone');
    expect(await segment.seal(agreed)).to.include({ size: bytes.length, objectSize: 6 * MiB });
    await segment.close();
    expect((await read(store, key, 0, bytes.length)).equals(bytes)).to.equal(true);
  });

  it('hold no memory that others wait for while their own client is silent', async () => {
    const { store } = scene.open({ memory: 4 * MiB });
    let go = () => {};
    const silence = new Promise<void>((resolve) => {
      go = resolve;
    });
    const silent = await Promise.all(
      Array.from({ length: 24 }, async () => {
        const segment = await store.begin(newKey());
        return {
          segment,
          done: segment.write(sourceOf([pattern(200_000), () => silence, pattern(10)]), never, new Witness()),
        };
      }),
    );
    await new Promise((resolve) => setTimeout(resolve, 200));
    const bytes = pattern(10 * MiB);
    const { key } = await put(store, bytes);
    expect((await read(store, key, 0, bytes.length)).equals(bytes)).to.equal(true);
    go();
    for (const { segment, done } of silent) {
      await done;
      expect(await segment.seal(agreed)).to.include({ size: 200_010 });
      await segment.close();
    }
  });

  it('are listed from their first part on, and removed whole, also while they are unfinished', async () => {
    const { store } = scene.open();
    const key = newKey();
    const segment = await store.begin(key);
    await segment.write(sourceOf(piecesOf(pattern(2 * PART), 100_000)), never, new Witness());
    await segment.close();
    const keys: string[] = [];
    for await (const listed of store.list()) keys.push(listed);
    expect(keys).to.deep.equal([key]);
    expect(await store.stat(key)).to.equal(undefined);
    expect(await store.remove(key)).to.equal(false);
    expect(await store.remove(key)).to.equal(true);
    for await (const listed of store.list()) expect.fail(listed);
  });

  it('are refused where there is no such bucket, or one that aborts uploads by a rule', async () => {
    const { region, endpoint, accessKeyId, secretAccessKey } = scene.place;
    const credentials = { accessKeyId, secretAccessKey };
    const client = new S3Client({ region, endpoint, credentials, forcePathStyle: true });
    const bucket = `ruled-${process.pid}`;
    const { store } = openStore({ ...scene.place, bucket });
    const refusal = () => store.prepare().catch((error: Error) => error.message);
    expect(await refusal()).to.match(/no bucket ruled/);
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
    expect(await refusal()).to.equal(undefined);
    const rule: LifecycleRule = {
      ID: 'tidy',
      Status: 'Enabled',
      Filter: { Prefix: '' },
      AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
    };
    await client.send(
      new PutBucketLifecycleConfigurationCommand({ Bucket: bucket, LifecycleConfiguration: { Rules: [rule] } }),
    );
    expect(await refusal()).to.match(/tidy.*aborts uploads/);
    await client.send(new DeleteBucketCommand({ Bucket: bucket }));
    client.destroy();
    store.close();
  });

  it('are found by as many pages as their lists have: objects, uploads and parts', async () => {
    const bucket = scene.bucket();
    const keys = Array.from({ length: 23 }, newKey);
    const signal = new AbortController().signal;
    const body = Buffer.from('part');
    const md5 = createHash('md5').update(body).digest('base64');
    const begun = await Promise.all(
      keys.map(async (key) => {
        await bucket.put(key, body);
        return { name: key as string, upload: await bucket.begin(key) };
      }),
    );
    const [{ name, upload } = { name: '', upload: '' }] = begun;
    for (let number = 1; number <= 23; number++) await bucket.putPart(name, upload, number, body, md5, signal);
    const listed = { names: [] as string[], uploads: [] as typeof begun };
    for await (const found of bucket.names('', 5)) listed.names.push(found);
    for await (const found of bucket.uploads('', 5)) listed.uploads.push(found);
    const parts = await bucket.listParts(name, upload, 5);
    bucket.close();
    const inOrder = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
    expect(listed.names.sort()).to.deep.equal([...keys].sort());
    expect(listed.uploads.sort(inOrder)).to.deep.equal(begun.sort(inOrder));
    expect(parts?.map(({ number, size }) => [number, size])).to.deep.equal(
      Array.from({ length: 23 }, (_, index) => [index + 1, 4]),
    );
  });

  it('have records beside them, in order', async () => {
    const { store } = scene.open();
    const places = [
      [1, 1],
      [0, 10],
      [0, 9],
      [0, 100],
    ] as const;
    for (const [generation, sequence] of places)
      await store.putRecords({ generation, sequence }, `${generation} ${sequence}\n`);
    const lines: string[] = [];
    for await (const file of store.listRecords()) lines.push(await store.readRecords(file));
    expect(lines).to.deep.equal(['0 9\n', '0 10\n', '0 100\n', '1 1\n']);
    const beyond: number[] = [];
    for await (const file of store.listRecords({ generation: 0, sequence: 10 })) beyond.push(file.sequence);
    expect(beyond).to.deep.equal([100, 1]);
    for await (const key of store.list()) expect.fail(key);
  });
});
