import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { Chance, Content } from '../faults/support/bytes.js';
import { Crowd } from '../faults/support/crowd.js';
import { Exchange, pull, send } from '../faults/support/exchange.js';
import { Gate } from '../faults/support/gate.js';
import { ask, Ledger } from '../faults/support/oracle.js';
import { memoryOf, until } from '../faults/support/processes.js';
import { Upload } from '../faults/support/upload.js';
import { startServer, type TestServer } from '../support/server.js';
import type { S3Options } from '../../src/storage/s3/client.js';
import { empty, placeIn, settingsOf } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import { compare } from './support/compare.js';

const MiB = 1024 * 1024;
const SEED = Number(process.env.FAULT_SEED ?? Math.floor(Math.random() * 2 ** 32));

describe('a registry whose bytes are in a bucket', () => {
  let ceph: Ceph;
  let place: S3Options;
  let server: TestServer;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
    console.log(`      FAULT_SEED=${SEED}`);
  });
  beforeEach(async () => {
    place = placeIn(ceph);
    // No disk has so much room.
    const limits = { REGISTRY_HEALTH_FREE_BYTES: String(Number.MAX_SAFE_INTEGER) };
    server = await startServer({ environment: { ...settingsOf(place), ...limits } });
  });
  afterEach(async () => {
    const log = await server.log();
    await server.dispose();
    await empty(place);
    expect(log).not.to.include(place.secretAccessKey);
  });

  const traffic = (host: string) => ({ host, gate: new Gate(), acknowledged: () => undefined });

  it('is well by its gateway and its database alone, and names no room that it does not know', async () => {
    await until('all workers have come up', async () => (await server.request('GET', '/health')).status === 200);
    const health = await server.request('GET', '/health');
    const well = { status: 'ok' };
    expect(health.status).to.equal(200);
    expect(await health.json()).to.deep.include({
      status: 'ok',
      checks: { database: well, storage: well, disk: well, workers: well },
      degraded: [],
    });
    const metrics = await (await server.request('GET', '/metrics')).text();
    expect(metrics).to.match(/^weighhouse_storage_free_bytes nan$/im);
    await ceph.signalGateway('SIGSTOP');
    try {
      await until('it says so', async () => (await server.request('GET', '/health')).status === 503);
    } finally {
      await ceph.signalGateway('SIGCONT');
    }
    await until('it is well again', async () => (await server.request('GET', '/health')).status === 200);
  });

  it('goes on where it was after all its processes died in the middle of a push', async function () {
    this.timeout(180_000);
    const upload = new Upload(traffic(server.host), 'killed', new Content('killed', 96 * MiB));
    await upload.begin();
    const exchange = new Exchange(server.host, 'PATCH', upload.path);
    for (const piece of upload.content.chunks(0, 60 * MiB, MiB)) {
      upload.reached += piece.length;
      await exchange.write(piece);
    }
    // The row learns of it every five seconds.
    const offset = async () =>
      (
        await ask<{ at: number }>(
          server.environment.REGISTRY_DATABASE_URL ?? '',
          'select "offset"::float8 as at from uploads',
        )
      )[0]?.at ?? 0;
    await until('something is recorded', async () => (await offset()) > 0);
    await server.kill();
    await server.start();
    const told = (await upload.status()) ?? 0;
    expect(told).to.be.within(8 * MiB, 60 * MiB);
    await upload.finish();
    expect(await pull(server.host, upload.blobPath)).to.include({ size: 96 * MiB, digest: upload.content.digest });
  });

  it('takes a session chunk by chunk on two nodes in turn', async function () {
    this.timeout(180_000);
    const { REGISTRY_DATABASE_URL = '' } = server.environment;
    const other = await startServer({ environment: { ...settingsOf(place), REGISTRY_DATABASE_URL }, embedded: true });
    try {
      const content = new Content('in turn', 24 * MiB);
      const begun = await send(server.host, 'POST', '/v2/turns/blobs/uploads/');
      const path = begun?.headers.location ?? '';
      for (let at = 0; at < content.size; at += 3 * MiB) {
        const host = (at / MiB) % 2 === 0 ? server.host : other.host;
        const exchange = new Exchange(host, 'PATCH', path, {
          'content-range': `${at}-${at + 3 * MiB - 1}`,
          'content-length': 3 * MiB,
        });
        await exchange.write(content.part(at, at + 3 * MiB));
        exchange.end();
        expect((await exchange.answer)?.status).to.equal(202);
      }
      expect((await send(other.host, 'PUT', `${path}?digest=${content.digest}`))?.status).to.equal(201);
      expect(await pull(server.host, `/v2/turns/blobs/${content.digest}`)).to.include({
        size: content.size,
        digest: content.digest,
      });
    } finally {
      await other.dispose();
    }
  });

  it('loses nothing that was acknowledged when nodes, gateway and OSD die, and leaves nothing behind', async function () {
    this.timeout(400_000);
    const url = server.environment.REGISTRY_DATABASE_URL ?? '';
    const chance = new Chance(SEED);
    const ledger = new Ledger();
    const crowd = new Crowd(traffic(server.host), ledger, 'crowd');
    const { gate } = crowd.traffic;
    crowd.start(chance);
    await sleep(chance.whole(500, 2_000));
    await ceph.signalGateway('SIGKILL');
    await ceph.up();
    await sleep(chance.whole(500, 2_000));
    await ceph.killOsd();
    await sleep(3_000);
    await ceph.startOsd();
    await sleep(chance.whole(500, 2_000));
    gate.close();
    await server.kill();
    await gate.allWait();
    await server.start();
    await ledger.check(server.host, false);
    const between = await compare(url, place);
    expect([between.unnamed, between.lost]).to.deep.equal([[], []]);
    gate.open();
    await sleep(chance.whole(500, 2_000));
    await crowd.stop();
    await ledger.check(server.host, true);
    expect(ledger.uploads.filter(({ committed }) => committed)).to.have.length.above(5);
    await ask(url, `update uploads set expires_at = now() - interval '1 second' where committed_digest is null`);
    await until(
      'all that is not a blob is removed',
      async () => {
        const { removals } = await compare(url, place);
        return removals.length === 0;
      },
      120_000,
    );
    const after = await compare(url, place);
    expect([after.unnamed, after.lost]).to.deep.equal([[], []]);
    expect([...after.objects].sort()).to.deep.equal(after.ofBlobs.sort());
    expect(after.uploads, 'multipart uploads').to.deep.equal([]);
    console.log(`      ${ledger.uploads.length} uploads, ${after.objects.size} objects`);
  });

  it('keeps its memory flat under slow uploads beside a large one', async function () {
    this.timeout(300_000);
    const workers = await server.workers();
    let highest = 0;
    let over = false;
    const watch = (async () => {
      while (!over) {
        for (const pid of workers) highest = Math.max(highest, (await memoryOf(pid)).rss);
        await sleep(200);
      }
    })();
    const slow = Array.from({ length: 32 }, async (_, index) => {
      const upload = new Upload(traffic(server.host), 'slow', new Content(`slow ${index}`, 4 * MiB));
      await upload.begin();
      expect(await upload.patch(upload.content.size, { pauseMs: 50 })).to.equal('done');
    });
    const large = new Upload(traffic(server.host), 'large', new Content('large', 384 * MiB));
    expect(large.content.digest).to.be.a('string');
    await large.begin();
    const begun = performance.now();
    expect(await large.put()).to.equal('done');
    const seconds = (performance.now() - begun) / 1000;
    await Promise.all(slow);
    over = true;
    await watch;
    console.log(`      384 MiB in ${seconds.toFixed(1)} s beside 32 slow uploads; at most ${highest} MiB in a worker`);
    expect(highest).to.be.below(400);
  });
});
