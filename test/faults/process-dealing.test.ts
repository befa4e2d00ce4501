import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { head, Wire } from '../http/wire.js';
import { startServer, type TestServer } from '../support/server.js';
import { Chance, Content } from './support/bytes.js';
import { Exchange, send } from './support/exchange.js';
import { allServe, openSockets, signal, socketsOf, until, untilLogged, untilTaken } from './support/processes.js';

const MiB = 1024 * 1024;
const UPLOADS = '/v2/dealt/blobs/uploads/';
const SEED = Number(process.env.FAULT_SEED ?? Math.floor(Math.random() * 2 ** 32));
/** More than a client of a worker that hangs or dies has to wait. */
const SOON_MS = 10_000;

const counts = async (server: TestServer) => (await socketsOf(server)).map(({ count }) => count);
const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);

/** Waits until the workers have so many connections. @returns those of each */
async function share(server: TestServer, connections: number): Promise<number[]> {
  await untilTaken(server);
  await until(`${connections} connections are left`, async () => sum(await counts(server)) === connections);
  return await counts(server);
}

/** What becomes of a request on a connection of its own: its status, undefined for a reset, or 'nothing'. */
async function outcome(server: TestServer): Promise<number | 'nothing' | undefined> {
  const over = new AbortController();
  const late = sleep(SOON_MS, 'nothing' as const, { signal: over.signal }).catch(() => undefined);
  const answer = send(server.host, 'GET', '/v2/').then((given) => given?.status);
  return await Promise.race([answer, late]).finally(() => over.abort());
}

const outcomes = (server: TestServer, many: number) => Promise.all(Array.from({ length: many }, () => outcome(server)));
const all = (status: number, many: number) => Array.from({ length: many }, () => status);

describe('connections', function () {
  this.timeout(120_000);
  let server: TestServer;
  afterEach(() => server.dispose());

  async function start(environment: Readonly<Record<string, string>>, tls = false): Promise<void> {
    server = await startServer({
      tls,
      environment: { REGISTRY_WORKERS: '2', REGISTRY_KEEP_ALIVE_TIMEOUT: '3', ...environment },
    });
    await allServe(server);
    // Its start was waited for on a connection that is kept a while.
    await share(server, 0);
  }

  for (const tls of [false, true])
    it(`that open together are shared evenly${tls ? ', with TLS' : ''}`, async () => {
      await start({}, tls);
      for (let round = 0; round < 3; round++) {
        const wires = await Promise.all(Array.from({ length: 32 }, () => Wire.open(server.host)));
        expect(await share(server, 32)).to.deep.equal([16, 16]);
        for (const wire of wires) await wire.write(head('GET', '/v2/')).untilAnswers(1);
        for (const wire of wires) wire.end();
        await share(server, 0);
      }
    });

  it('that stay long are shared evenly although short ones come between them', async () => {
    await start({});
    const content = new Content('slow', 2 * MiB);
    const uploads: Exchange[] = [];
    for (let index = 0; index < 12; index++) {
      expect((await send(server.host, 'GET', '/v2/'))?.status).to.equal(200);
      await share(server, uploads.length);
      const length = { 'content-length': content.size };
      const upload = new Exchange(server.host, 'POST', `${UPLOADS}?digest=${content.digest}`, length);
      uploads.push(upload);
      await upload.write(content.part(0, 1 * MiB));
      await untilTaken(server);
    }
    expect(await share(server, 12)).to.deep.equal([6, 6]);
    for (const upload of uploads) {
      await upload.write(content.part(1 * MiB, content.size));
      upload.end();
      expect((await upload.answer)?.status).to.equal(201);
    }
  });

  it('that a worker was offered when it died are served by the next', async () => {
    await start({ REGISTRY_WORKERS: '1' });
    for (const patienceMs of [0, 100, 1_000]) {
      const [worker = 0] = await server.workers();
      signal(worker, 'SIGSTOP');
      const asked = outcomes(server, 10);
      await sleep(patienceMs);
      signal(worker, 'SIGKILL');
      expect(await asked).to.deep.equal(all(200, 10));
    }
  });

  it('that went to another worker are not read by the one that hung', async () => {
    await start({});
    const [hung = 0, other = 0] = await server.workers();
    const primary = server.process.pid ?? 0;
    const held = async (pid: number) => (await socketsOf(server)).find((worker) => worker.pid === pid)?.count;
    const own = await openSockets(server, primary);
    for (let round = 0; round < 8; round++) {
      signal(hung, 'SIGSTOP');
      // One is offered to either, and goes to the other then.
      const wires = [await Wire.open(server.host), await Wire.open(server.host)];
      await until('the other has both', async () => (await held(other)) === 2);
      // It lets go of a connection behind the word that it is the other's.
      await until('the primary has none', async () => (await openSockets(server, primary)) === own);
      // Now it can not hear that its offer was taken back.
      signal(primary, 'SIGSTOP');
      try {
        signal(hung, 'SIGCONT');
        await until('it has received what it was offered', async () => (await held(hung)) === 1);
        for (const wire of wires) await wire.write(head('GET', '/v2/')).untilAnswers(1, SOON_MS);
      } finally {
        signal(primary, 'SIGCONT');
      }
      expect(wires.map(({ status }) => status)).to.deep.equal([200, 200]);
      await until('it has let go', async () => (await held(hung)) === 0);
      for (const wire of wires) wire.end();
      await share(server, 0);
    }
  });

  it('end somehow, however workers die in a storm of them', async () => {
    await start({});
    const chance = new Chance(SEED);
    console.log(`      FAULT_SEED=${SEED}`);
    const seen = new Map<unknown, number>();
    for (let round = 0; round < 12; round++) {
      let over = false;
      const clients = Array.from({ length: 24 }, async () => {
        while (!over) {
          const result = await outcome(server);
          seen.set(result, (seen.get(result) ?? 0) + 1);
        }
      });
      await sleep(chance.whole(50, 400));
      const victim = chance.pick(await server.workers());
      if (chance.next() < 0.5) signal(victim, 'SIGSTOP');
      await sleep(chance.whole(0, 50));
      signal(victim, 'SIGKILL');
      await sleep(chance.whole(0, 200));
      over = true;
      await Promise.all(clients);
    }
    console.log(`      ${[...seen].map(([result, many]) => `${String(result ?? 'reset')}: ${many}`).join(', ')}`);
    expect([...seen.keys()].filter((result) => result !== undefined)).to.deep.equal([200]);
    expect(seen.get(200)).to.be.above(1_000);
    // They died in the middle of requests of 24 clients at most.
    expect(seen.get(undefined) ?? 0).to.be.below(12 * 24);
    // With a client that hangs neither end is closed.
    await share(server, 0);
  });

  it('are not refused or reset by a rolling restart in a storm of them', async () => {
    await start({});
    let over = false;
    const seen = new Set<unknown>();
    let answered = 0;
    const clients = Array.from({ length: 24 }, async () => {
      while (!over) seen.add(await outcome(server)) && answered++;
    });
    const rounds = async () => (await server.log()).split('all workers are new').length - 1;
    for (let round = 1; round <= 3; round++) {
      signal(server.process.pid ?? 0, 'SIGHUP');
      await until('all workers are new', async () => (await rounds()) === round, 60_000);
    }
    over = true;
    await Promise.all(clients);
    console.log(`      ${answered} connections`);
    expect([...seen]).to.deep.equal([200]);
    expect(await server.log()).not.to.include('"level":"error"');
  });

  it('are not swallowed by a worker that hangs while another serves, which gets its share again later', async () => {
    await start({});
    const [hanging = 0, other = 0] = await server.workers();
    signal(hanging, 'SIGSTOP');
    expect(await outcomes(server, 30)).to.deep.equal(all(200, 30));
    signal(hanging, 'SIGCONT');
    await share(server, 0);
    const wires: Wire[] = [];
    for (let count = 0; count < 10; count++) wires.push(await Wire.open(server.host));
    await share(server, 10);
    const held = new Map((await socketsOf(server)).map(({ pid, count }) => [pid, count]));
    expect([held.get(hanging), held.get(other)]).to.deep.equal([5, 5]);
    for (const wire of wires) await wire.write(head('GET', '/v2/')).untilAnswers(1);
    for (const wire of wires) wire.end();
  });

  it('of clients that have gone before a worker takes them do not count for ever', async () => {
    await start({ REGISTRY_WORKERS: '1', REGISTRY_MAX_CONNECTIONS: '4' });
    const [worker = 0] = await server.workers();
    for (let round = 0; round < 5; round++) {
      signal(worker, 'SIGSTOP');
      const gone = await Promise.all(Array.from({ length: 3 }, () => Wire.open(server.host)));
      for (const [index, wire] of gone.entries()) {
        if (index > 0) wire.write(head('GET', '/v2/'));
        if (index > 1) wire.socket.resetAndDestroy();
        else wire.end();
      }
      // Once before the offer is taken back, and once after it.
      await sleep(round % 2 === 0 ? 0 : 700);
      signal(worker, 'SIGCONT');
      await share(server, 0);
    }
    const wires = await Promise.all(Array.from({ length: 4 }, () => Wire.open(server.host)));
    for (const wire of wires) await wire.write(head('GET', '/v2/')).untilAnswers(1);
    const further = await Wire.open(server.host);
    await further.untilClosed();
    expect(wires.map(({ closed }) => closed)).to.deep.equal([false, false, false, false]);
    for (const wire of wires) wire.end();
  });

  it('wait for a worker up to their limits of number and time', async () => {
    await start({ REGISTRY_WORKERS: '1', REGISTRY_MAX_CONNECTIONS: '5', REGISTRY_HEADERS_TIMEOUT: '3' });
    const [worker = 0] = await server.workers();
    signal(worker, 'SIGSTOP');
    const wires = await Promise.all(Array.from({ length: 20 }, () => Wire.open(server.host)));
    // One is offered to the worker.
    await until('those beyond the limit are closed', () => wires.filter(({ closed }) => !closed).length === 6);
    await untilLogged(server, /"dropped":14[^\n]*REGISTRY_MAX_CONNECTIONS/);
    await Promise.all(wires.map((wire) => wire.untilClosed(10_000)));
    signal(worker, 'SIGCONT');
    expect(await outcomes(server, 3)).to.deep.equal(all(200, 3));
  });
});
