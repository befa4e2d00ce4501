import { expect } from 'chai';
import { descriptorsOf, memoryOf, socketsAt, until } from '../faults/support/processes.js';
import { LorisCrowd } from '../support/loris.js';
import { AUTHORIZATION, startServer, type TestServer } from '../support/server.js';
import { bytesOf, close, digestOf, expectBlob, openUpload, pushBlob } from './content.js';
import { head, Wire } from './wire.js';

const MiB = 1024 * 1024;
const REPOSITORY = 'slow/model';
/** Of heads, silence and idle connections alike. */
const TIMEOUT_MS = 2_000;
const BEAT_MS = 100;
/** Those that live as long as they send. */
const UPLOADS = 80;

describe('two hundred slow lorises', () => {
  let server: TestServer;
  let crowd: LorisCrowd;
  let worker: number;
  /** Milliseconds of a push and a pull, with nobody else there. */
  let alone: number;
  let baseline: number;
  let quietMiB: number;

  before(async function () {
    this.timeout(60_000);
    const seconds = String(TIMEOUT_MS / 1000);
    server = await startServer({
      environment: {
        REGISTRY_WORKERS: '1',
        REGISTRY_IDLE_TIMEOUT: seconds,
        REGISTRY_HEADERS_TIMEOUT: seconds,
        REGISTRY_KEEP_ALIVE_TIMEOUT: seconds,
      },
    });
    [worker = 0] = await server.workers();
    alone = await pushAndPull('alone');
    // Larger than what the sockets of both sides hold.
    const blob = await pushBlob(server, REPOSITORY, bytesOf('read slowly', 30 * MiB));
    await until('idle connections are closed', async () => (await connections()) === 0);
    baseline = await connections();
    quietMiB = (await memoryOf(worker)).rss;
    crowd = new LorisCrowd(server.host, AUTHORIZATION, BEAT_MS);
    const locations = await Promise.all(Array.from({ length: UPLOADS }, () => openUpload(server, REPOSITORY)));
    for (const location of locations) await crowd.add('body', location);
    for (let count = 0; count < 20; count++) await crowd.add('download', `/v2/${REPOSITORY}/blobs/${blob}`);
    for (let count = 0; count < 50; count++) await crowd.add('head');
    for (let count = 0; count < 50; count++) await crowd.add('silent');
  });
  after(async () => {
    crowd?.end();
    await server?.dispose();
  });

  /** Connections of clients that the worker holds. */
  async function connections(): Promise<number> {
    const sockets = await socketsAt(Number(server.host.split(':')[1]));
    return (await descriptorsOf(worker)).filter((name) => sockets.has(name)).length;
  }

  /** The median of five pushes and pulls of a blob, in milliseconds. */
  async function pushAndPull(seed: string): Promise<number> {
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      const bytes = bytesOf(`${seed} ${round}`, 8 * MiB);
      const begun = performance.now();
      await pushBlob(server, REPOSITORY, bytes);
      await expectBlob(server, REPOSITORY, bytes);
      times.push(performance.now() - begun);
    }
    return times.sort((one, other) => one - other)[2] ?? 0;
  }

  it('let pushes and pulls through', async () => {
    expect(crowd.open(), 'all are there').to.have.lengthOf(200);
    const beside = await pushAndPull('beside');
    expect(crowd.open().length, 'most were there to the end').to.be.greaterThan(75);
    console.log(`      push and pull of 8 MiB: ${Math.round(alone)} ms alone, ${Math.round(beside)} ms beside 200`);
  });

  it('are ended after their time, but for uploads that move', async () => {
    await until('heads and silence have ended', () => crowd.open('head').length + crowd.open('silent').length === 0);
    for (const { habit, lived, received } of crowd.all.filter(({ closed }) => closed)) {
      expect(lived, habit).to.be.within(TIMEOUT_MS - 100, 2 * TIMEOUT_MS + 6_000);
      expect(received).to.match(/^HTTP\/1\.1 408 /);
    }
    await until('nothing is left of downloads', async () => (await connections()) <= baseline + UPLOADS);
    crowd.readOn();
    await until('downloads have ended', () => crowd.open('download').length === 0);
    for (const { bytes } of crowd.all.filter(({ habit }) => habit === 'download'))
      expect(bytes, 'broken off').to.be.lessThan(30 * MiB);
    expect(crowd.open('body')).to.have.lengthOf(UPLOADS);
  });

  it('stand beside an upload that lives far beyond every timeout', async function () {
    this.timeout(60_000);
    const bytes = bytesOf('twenty hours', 30);
    const location = await openUpload(server, REPOSITORY);
    const wire = await Wire.open(server.host);
    wire.write(head('PATCH', location, `Content-Length: ${bytes.length}`));
    for (const byte of bytes) {
      await new Promise((resolve) => setTimeout(resolve, TIMEOUT_MS / 4));
      wire.write(Buffer.from([byte]));
    }
    await wire.untilAnswers(1);
    expect(wire.status).to.equal(202);
    expect(wire.ageMs).to.be.greaterThan(7 * TIMEOUT_MS);
    wire.end();
    expect((await close(server, location, digestOf(bytes))).status).to.equal(201);
    await expectBlob(server, REPOSITORY, bytes);
    expect(crowd.open('body'), 'which live as long').to.have.lengthOf(UPLOADS);
  });

  it('leave nothing behind when they have fallen silent', async () => {
    crowd.fallSilent();
    await until('uploads have ended', () => crowd.open('body').length === 0);
    await until('their connections are gone', async () => (await connections()) <= baseline);
    expect((await memoryOf(worker)).rss - quietMiB, 'MiB more than before').to.be.lessThan(150);
    expect(await server.log()).not.to.match(/"level":"(error|fatal)"/);
  });
});
