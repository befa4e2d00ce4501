import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { head, Wire } from '../http/wire.js';
import { AUTHORIZATION, startServer, type TestServer } from '../support/server.js';
import { Content } from './support/bytes.js';
import { Exchange, pull, send } from './support/exchange.js';
import { allServe, isAlive, signal, socketsOf, until, untilLogged, untilTaken } from './support/processes.js';

const MiB = 1024 * 1024;
const UPLOADS = '/v2/restart/blobs/uploads/';

/** Clients that ask again and again, each on a kept connection or (without `keepAlive`) on one for each request. */
class Load {
  readonly failures: string[] = [];
  answered = 0;
  #stopped = false;
  readonly #clients: Promise<void>[];

  constructor(host: string, clients: readonly { readonly keepAlive: boolean; readonly pauseMs: number }[]) {
    this.#clients = clients.map(async ({ keepAlive, pauseMs }) => {
      const agent = keepAlive ? new Agent({ keepAlive, maxSockets: 1 }) : false;
      while (!this.#stopped) {
        const outcome = await get(host, agent);
        if (outcome === 200) this.answered += 1;
        else this.failures.push(`${keepAlive ? 'kept' : 'fresh'}, every ${pauseMs} ms: ${outcome}`);
        await sleep(pauseMs);
      }
      if (agent) agent.destroy();
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#clients);
  }
}

async function get(host: string, agent: Agent | false): Promise<unknown> {
  const [hostname, port] = host.split(':');
  return await new Promise((resolve) => {
    const asked = request({ hostname, port, path: '/v2/', agent, headers: { authorization: AUTHORIZATION } });
    asked.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    asked.on('response', (response) => response.resume().on('end', () => resolve(response.statusCode)));
    asked.end();
  });
}

/** SIGHUP, and waits until each worker has a successor that serves. */
async function restart(server: TestServer): Promise<void> {
  const rounds = async () => (await server.log()).split('all workers are new').length;
  const before = await rounds();
  signal(server.process.pid ?? 0, 'SIGHUP');
  await until('all workers are new', async () => (await rounds()) > before, 60_000);
}

async function push(host: string, content: Content): Promise<void> {
  const body = content.part(0, content.size);
  expect((await send(host, 'POST', `${UPLOADS}?digest=${content.digest}`, { body }))?.status).to.equal(201);
}

/** An upload and a download of which a part has passed; `finish` lets them go on to the end and looks at the bytes. */
async function underWay(server: TestServer, blob: Content) {
  const { host } = server;
  const layer = new Content('slow upload', 8 * MiB);
  const upload = new Exchange(host, 'POST', `${UPLOADS}?digest=${layer.digest}`, { 'content-length': layer.size });
  const middle = 3 * MiB;
  for (const piece of layer.chunks(0, middle, 64 * 1024)) await upload.write(piece);
  let release = () => {};
  let begin = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const download = pull(host, `/v2/restart/blobs/${blob.digest}`, async (bytes) => {
    begin();
    if (bytes > 1 * MiB) await released;
  });
  await begun;
  return {
    finish: async () => {
      release();
      for (const piece of layer.chunks(middle, layer.size, 64 * 1024)) await upload.write(piece);
      upload.end();
      expect((await upload.answer)?.status).to.equal(201);
      expect(await download).to.include({ status: 200, whole: true, digest: blob.digest });
      const pulled = await pull(host, `/v2/restart/blobs/${layer.digest}`);
      expect(pulled).to.include({ status: 200, whole: true, digest: layer.digest });
    },
  };
}

describe('a rolling restart', function () {
  this.timeout(180_000);
  let server: TestServer | undefined;
  afterEach(() => server?.dispose());

  for (const workers of [1, 2]) {
    it(`on SIGHUP fails no request and breaks no stream, of ${workers} at a time`, async () => {
      const started = await startServer({ tls: false, environment: { REGISTRY_WORKERS: String(workers) } });
      server = started;
      // More than the sockets of both sides hold.
      const blob = new Content('slow download', 48 * MiB);
      await push(started.host, blob);
      await allServe(started);
      const old = await started.workers();
      const streams = await underWay(started, blob);
      const kept = [0, 1, 20, 200, 1500].map((pauseMs) => ({ keepAlive: true, pauseMs }));
      const fresh = [0, 5, 50].map((pauseMs) => ({ keepAlive: false, pauseMs }));
      const load = new Load(started.host, [...kept, ...fresh]);
      await restart(started);
      await until('new workers serve', async () => {
        const added = (await started.workers()).filter((pid) => !old.includes(pid));
        return added.length === workers;
      });
      // The kept connections are idle on the former workers for less and more than these grant.
      await sleep(7_000);
      await streams.finish();
      await until('the former workers have ended', async () => {
        const alive = await Promise.all(old.map(isAlive));
        return !alive.includes(true);
      });
      // On a slow machine the same load takes longer.
      await until('the load was worth the name', () => load.answered > 500, 60_000);
      await load.stop();
      expect(load.failures).to.deep.equal([]);
      expect(await started.workers()).to.have.length(workers);
      expect(await started.log()).not.to.include('"level":"error"');
      expect(await started.stop()).to.equal(0);
    });
  }

  it('answers on connections kept by a former worker, once, and closes them when they stay idle', async () => {
    server = await startServer({ environment: { REGISTRY_WORKERS: '1' } });
    const wires = await Promise.all(['used', 'half', 'silent'].map(() => Wire.open(server?.host ?? '')));
    const [used, half, silent] = wires as [Wire, Wire, Wire];
    for (const wire of wires) await wire.write(head('GET', '/v2/')).untilAnswers(1);
    expect(used.text).to.match(/\r\nconnection: keep-alive\r\n/i);
    const request = head('GET', '/v2/');
    await restart(server);
    // One whose request arrives, however slowly, isn't idle.
    let arrived = 0;
    const drip = setInterval(() => half.write(request.slice(arrived, ++arrived)), 250);
    try {
      await used.write(request).untilAnswers(2);
      await silent.untilClosed();
    } finally {
      clearInterval(drip);
    }
    expect(arrived).to.be.below(request.length);
    await half.write(request.slice(arrived)).untilAnswers(2);
    for (const wire of [used, half]) {
      expect(wire.status).to.equal(200);
      expect(wire.text).to.match(/\r\nconnection: close\r\n/i);
      await wire.untilClosed();
    }
    expect(silent.text).not.to.match(/\r\nconnection: close\r\n/i);
  });

  it('is done once more when it is asked for while it runs', async () => {
    const started = await startServer({ environment: { REGISTRY_WORKERS: '2' } });
    server = started;
    await until('both are there', async () => (await started.workers()).length === 2);
    const old = await started.workers();
    for (let times = 0; times < 5; times++) signal(started.process.pid ?? 0, 'SIGHUP');
    // Signals of which it heard none yet are one to it.
    await untilLogged(started, 'replacing the workers');
    for (let times = 0; times < 5; times++) signal(started.process.pid ?? 0, 'SIGHUP');
    const done = async () => (await started.log()).split('all workers are new').length - 1;
    await until('it was done twice', async () => (await done()) === 2, 60_000);
    await until('two workers are left', async () => (await started.workers()).length === 2, 30_000);
    expect((await started.workers()).filter((pid) => old.includes(pid))).to.deep.equal([]);
    expect(await done()).to.equal(2);
    expect((await send(started.host, 'GET', '/v2/'))?.status).to.equal(200);
  });

  it('is broken off by SIGTERM, which ends also what has retired', async () => {
    const started = await startServer({ environment: { REGISTRY_WORKERS: '1', REGISTRY_DRAIN_TIMEOUT: '1' } });
    server = started;
    const layer = new Content('in a former worker', 8 * MiB);
    const upload = new Exchange(started.host, 'POST', `${UPLOADS}?digest=${layer.digest}`, {
      'content-length': layer.size,
    });
    await upload.write(layer.part(0, 1 * MiB));
    await restart(started);
    const workers = await started.workers();
    expect(workers).to.have.length(2);
    signal(started.process.pid ?? 0, 'SIGHUP');
    expect(await started.stop()).to.equal(0);
    expect(await upload.answer).to.equal(undefined);
    expect(await Promise.all(workers.map(isAlive))).to.deep.equal([false, false]);
  });
});

describe('a worker that dies', function () {
  this.timeout(120_000);

  it('takes only its own connections with it', async () => {
    const server = await startServer({ environment: { REGISTRY_WORKERS: '2', REGISTRY_KEEP_ALIVE_TIMEOUT: '1' } });
    try {
      await allServe(server);
      const connected = async () => (await socketsOf(server)).reduce((sum, { count }) => sum + count, 0);
      await until('nobody is connected', async () => (await connected()) === 0);
      const uploads: { content: Content; exchange: Exchange }[] = [];
      while (uploads.length < 8) {
        const content = new Content(`dying ${uploads.length}`, 2 * MiB);
        const length = { 'content-length': content.size };
        const exchange = new Exchange(server.host, 'POST', `${UPLOADS}?digest=${content.digest}`, length);
        uploads.push({ content, exchange });
        await exchange.write(content.part(0, 1 * MiB));
      }
      await untilTaken(server);
      await until('nothing else is connected', async () => (await connected()) === uploads.length);
      const [victim, survivor] = await socketsOf(server);
      if (!victim || !survivor) throw new Error('there are no two workers');
      signal(victim.pid, 'SIGKILL');
      await until('another came', async () => {
        const now = await server.workers();
        return now.length === 2 && !now.includes(victim.pid);
      });
      const statuses = await Promise.all(
        uploads.map(async ({ content, exchange }) => {
          await exchange.write(content.part(1 * MiB, content.size));
          exchange.end();
          return (await exchange.answer)?.status;
        }),
      );
      expect(statuses.filter((status) => status === 201)).to.have.length(survivor.count);
      expect(statuses.filter((status) => status === undefined)).to.have.length(victim.count);
    } finally {
      await server.dispose();
    }
  });

  it('is followed by another after a pause that grows', async () => {
    const server = await startServer({ environment: { REGISTRY_WORKERS: '1' } });
    try {
      for (let death = 0; death < 4; death++) {
        const [pid = 0] = await server.workers();
        signal(pid, 'SIGKILL');
        await until('another answers', async () => (await send(server.host, 'GET', '/v2/'))?.status === 200);
      }
      const found = async () =>
        [...(await server.log()).matchAll(/"pauseMs":(\d+)/g)].map(([, pause]) => Number(pause));
      await until('four pauses are logged', async () => (await found()).length >= 4);
      const pauses = await found();
      expect(pauses).to.deep.equal([100, 200, 400, 800]);
    } finally {
      await server.dispose();
    }
  });
});
