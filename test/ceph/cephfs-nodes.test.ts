import { mkdtemp, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { expect } from 'chai';
import { Content } from '../faults/support/bytes.js';
import { Exchange, pull, send } from '../faults/support/exchange.js';
import { Gate } from '../faults/support/gate.js';
import { ask } from '../faults/support/oracle.js';
import { until } from '../faults/support/processes.js';
import { Upload } from '../faults/support/upload.js';
import { basic } from '../support/keys.js';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import { startServer, type TestServer } from '../support/server.js';
import { type Mounts, sharedMounts } from './support/ceph.js';

const MiB = 1024 * 1024;
const TYPE = 'application/vnd.oci.image.manifest.v1+json';
/** So long a download waits for its first bytes. */
const STORAGE_TIMEOUT_SECONDS = 2;

describe('two nodes whose bytes are on CephFS, each with a mount of its own', function () {
  this.timeout(180_000);
  let mounts: Mounts;
  let database: TestDatabase;
  let root: string;
  let one: TestServer;
  let two: TestServer;

  before(async function () {
    this.timeout(300_000);
    mounts = await sharedMounts(this);
    database = await createDatabase();
    root = await mkdtemp(join(mounts.first, 'blobs-'));
    const start = (folder: string) =>
      startServer({
        embedded: true,
        environment: {
          REGISTRY_DATABASE_URL: database.url,
          REGISTRY_FILESYSTEM_ROOT: folder,
          REGISTRY_STORAGE_TIMEOUT: String(STORAGE_TIMEOUT_SECONDS),
          REGISTRY_HEALTH_TIMEOUT: '2',
          REGISTRY_HEALTH_FREE_BYTES: '0',
          REGISTRY_REMOVAL_DELAY: '0',
          REGISTRY_REMOVAL_SHARE: '100',
          REGISTRY_READ_GRACE: '0',
          REGISTRY_JOB_INTERVAL: '1',
        },
      });
    one = await start(root);
    two = await start(join(mounts.second, basename(root)));
  });
  after(async () => {
    await two?.dispose();
    await one?.dispose();
    await database?.drop();
    if (root) await rm(root, { recursive: true, force: true });
  });

  const traffic = (host: string) => ({ host, gate: new Gate(), acknowledged: () => undefined });

  async function push(node: TestServer, content: Content): Promise<void> {
    const body = content.part(0, content.size);
    const answer = await send(node.host, 'POST', `/v2/nodes/blobs/uploads/?digest=${content.digest}`, { body });
    expect(answer?.status).to.equal(201);
  }

  async function pushManifest(node: TestServer, layer: Content, tag: string): Promise<string> {
    const descriptor = { mediaType: 'application/octet-stream', digest: layer.digest, size: layer.size };
    const manifest = { schemaVersion: 2, mediaType: TYPE, config: descriptor, layers: [descriptor] };
    const body = Buffer.from(JSON.stringify(manifest));
    const answer = await send(node.host, 'PUT', `/v2/nodes/manifests/${tag}`, {
      body,
      headers: { 'content-type': TYPE },
    });
    expect(answer?.status).to.equal(201);
    return String(answer?.headers['docker-content-digest']);
  }

  it('take a session chunk by chunk in turn, and give the blob out at once', async () => {
    const content = new Content('in turn', 24 * MiB);
    const begun = await send(one.host, 'POST', '/v2/nodes/blobs/uploads/');
    const path = begun?.headers.location ?? '';
    const chunk = 2 * MiB;
    for (let at = 0; at < content.size; at += chunk) {
      const node = (at / chunk) % 2 === 0 ? one : two;
      const exchange = new Exchange(node.host, 'PATCH', path, {
        'content-range': `${at}-${at + chunk - 1}`,
        'content-length': chunk,
      });
      await exchange.write(content.part(at, at + chunk));
      exchange.end();
      expect((await exchange.answer)?.status).to.equal(202);
    }
    expect((await send(two.host, 'PUT', `${path}?digest=${content.digest}`))?.status).to.equal(201);
    for (const { host } of [one, two])
      expect(await pull(host, `/v2/nodes/blobs/${content.digest}`)).to.include({
        status: 200,
        size: content.size,
        digest: content.digest,
      });
  });

  it('give out what the other has just acknowledged, whole and by ranges, and nothing that it has just deleted', async () => {
    for (let time = 0; time < 10; time++) {
      const [to, from] = time % 2 === 0 ? [one, two] : [two, one];
      const content = new Content(`small ${time}`, 300_000 + time);
      const path = `/v2/nodes/blobs/${content.digest}`;
      await push(to, content);
      expect((await pull(from.host, path))?.digest).to.equal(content.digest);
      const part = await send(from.host, 'GET', path, { headers: { range: 'bytes=100000-199999' } });
      expect(part?.status).to.equal(206);
      expect(part?.body.equals(content.part(100_000, 200_000))).to.equal(true);
      const digest = await pushManifest(to, content, 'latest');
      expect((await send(from.host, 'HEAD', '/v2/nodes/manifests/latest'))?.headers['docker-content-digest']).to.equal(
        digest,
      );
      expect((await send(to.host, 'DELETE', `/v2/nodes/manifests/${digest}`))?.status).to.equal(202);
      expect((await send(from.host, 'GET', `/v2/nodes/manifests/${digest}`))?.status).to.equal(404);
      expect((await send(to.host, 'DELETE', path))?.status).to.equal(202);
      expect((await send(from.host, 'GET', path))?.status).to.equal(404);
    }
  });

  it('go on with what the other has of an upload in whose middle it was killed', async () => {
    const where = traffic(one.host);
    const upload = new Upload(where, 'nodes', new Content('killed', 48 * MiB));
    await upload.begin();
    const exchange = new Exchange(one.host, 'PATCH', upload.path);
    for (const piece of upload.content.chunks(0, 40 * MiB, MiB)) {
      upload.reached += piece.length;
      await exchange.write(piece);
    }
    // The row learns of it every five seconds.
    const recorded = async () =>
      (await ask<{ at: number }>(database.url, `select coalesce(max("offset"), 0)::float8 as at from uploads`))[0]
        ?.at ?? 0;
    await until('something is recorded', async () => (await recorded()) > 24 * MiB);
    await one.kill();
    where.host = two.host;
    expect(await upload.status()).to.be.within(1, 40 * MiB);
    await upload.finish();
    await one.start();
    for (const { host } of [one, two])
      expect(await pull(host, upload.blobPath)).to.include({ size: 48 * MiB, digest: upload.content.digest });
  });

  it('answer 503 to reads while an OSD is dead, say so, and go on with the writes that waited', async () => {
    const cold = Array.from({ length: 8 }, (_, index) => new Content(`cold ${index}`, 2 * MiB));
    for (const content of cold) await push(one, content);
    await pushManifest(one, cold[0] as Content, 'cold');
    const pids = [...(await one.workers()), ...(await two.workers())].sort();
    const uploads = [one, two].map(({ host }, index) => {
      const upload = new Upload(traffic(host), 'nodes', new Content(`waits ${index}`, 24 * MiB));
      return { upload, exchange: undefined as Exchange | undefined };
    });
    for (const each of uploads) {
      await each.upload.begin();
      each.exchange = new Exchange(
        each.upload.traffic.host,
        'PUT',
        `${each.upload.path}?digest=${each.upload.content.digest}`,
        {
          'content-length': each.upload.content.size,
        },
      );
      await each.exchange.write(each.upload.content.part(0, 8 * MiB));
    }
    let sent: Promise<void>[] = [];
    await mounts.ceph.killOsd();
    try {
      sent = uploads.map(async ({ upload, exchange }) => {
        await exchange?.write(upload.content.part(8 * MiB, 24 * MiB));
        exchange?.end();
      });
      // More than there are threads; what the other node wrote is in no cache of this one.
      const begun = performance.now();
      const refused = await Promise.all(cold.map((content) => pull(two.host, `/v2/nodes/blobs/${content.digest}`)));
      const seconds = (performance.now() - begun) / 1000;
      expect(refused.map((answer) => [answer?.status, answer?.retryAfter !== undefined])).to.deep.equal(
        cold.map(() => [503, true]),
      );
      console.log(`      ${cold.length} downloads refused after ${seconds.toFixed(1)} s`);
      // Facts need no storage.
      for (const node of [one, two])
        expect((await send(node.host, 'GET', '/v2/nodes/manifests/cold'))?.status).to.equal(200);
      for (const node of [one, two])
        await until(
          'a node says that it is not well',
          async () => (await node.request('GET', '/health')).status === 503,
        );
      // Nor do keys, which are checked on the threads that files have, too.
      for (const secret of ['one', 'two', 'three'])
        expect(
          (await send(two.host, 'GET', '/v2/', { headers: { authorization: basic(`wh_admin_${secret}`) } }))?.status,
        ).to.equal(401);
    } finally {
      await mounts.ceph.startOsd();
    }
    await Promise.all(sent);
    for (const { upload, exchange } of uploads) {
      expect((await exchange?.answer)?.status).to.equal(201);
      for (const { host } of [one, two])
        expect((await pull(host, upload.blobPath))?.digest).to.equal(upload.content.digest);
    }
    for (const content of cold)
      expect((await pull(two.host, `/v2/nodes/blobs/${content.digest}`))?.digest).to.equal(content.digest);
    for (const node of [one, two])
      await until('a node is well again', async () => (await node.request('GET', '/health')).status === 200);
    expect([...(await one.workers()), ...(await two.workers())].sort()).to.deep.equal(pids);
  });
});
