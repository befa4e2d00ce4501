import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import { Chance, Content } from './support/bytes.js';
import { Crowd } from './support/crowd.js';
import { EmbeddedSite } from './support/embedded.js';
import { pull, send } from './support/exchange.js';
import { Gate } from './support/gate.js';
import { checkStore, Ledger } from './support/oracle.js';
import { childrenOf, signal, until } from './support/processes.js';
import { Upload } from './support/upload.js';

const MiB = 1024 * 1024;
const STOPPED_MS = Number(process.env.FAULT_STOPPED_MS ?? 15_000);
const BOUND_MS = 60_000;

describe('PostgreSQL restarted', function () {
  this.timeout(300_000);
  let site: EmbeddedSite;
  let server: TestServer;
  const ledger = new Ledger();
  let kept: Upload;
  let processes: number[];

  const traffic = () => ({ host: server.host, gate: new Gate(), acknowledged: () => undefined });

  before(async () => {
    site = await EmbeddedSite.make();
    server = await site.start({ REGISTRY_DATABASE_TIMEOUT: '3' });
    kept = new Upload(traffic(), 'kept', new Content('kept', 1 * MiB));
    ledger.uploads.push(kept);
    await kept.finish();
    processes = [server.process.pid ?? 0, ...(await server.workers())];
  });
  after(() => site.clear());

  /** Clients push and one pulls while `disturb` is at work; all come to their end, and every answer is right or a 503. */
  async function under(name: string, disturb: () => Promise<void>): Promise<{ unavailable: number; slowest: number }> {
    const crowd = new Crowd(traffic(), ledger, name);
    crowd.start(new Chance(name.length));
    let over = false;
    let unavailable = 0;
    let slowest = 0;
    const puller = (async () => {
      while (!over) {
        const began = performance.now();
        const pulled = await pull(server.host, kept.blobPath);
        slowest = Math.max(slowest, performance.now() - began);
        if (pulled?.status === 503) {
          unavailable += 1;
          expect(Number(pulled.retryAfter)).to.be.above(0);
          await sleep(50);
        } else expect(pulled).to.include({ status: 200, digest: kept.content.digest, whole: true });
      }
    })();
    await sleep(500);
    await disturb();
    await until(
      'the registry has recovered',
      async () => (await pull(server.host, kept.blobPath))?.status === 200,
      BOUND_MS,
    );
    await crowd.stop();
    over = true;
    await puller;
    await ledger.check(server.host, true);
    await checkStore(await site.url(), site.blobs);
    expect([server.process.pid ?? 0, ...(await server.workers())], 'nothing was restarted').to.deep.equal(processes);
    console.log(`      ${name}: ${unavailable} × 503, the slowest answer after ${(slowest / 1000).toFixed(1)} s`);
    return { unavailable, slowest };
  }

  /** The server of a killed one has another pid and answers. */
  async function untilReplaced(old: number): Promise<void> {
    await until('another PostgreSQL runs', async () => ![undefined, old].includes(await site.postmaster()), BOUND_MS);
  }

  it('by kill -9 costs 503s, and sessions go on when it is back', async () => {
    await under('killed', async () => {
      const old = (await site.postmaster()) ?? 0;
      await site.killPostgres();
      await untilReplaced(old);
    });
  });

  it('by a SIGTERM of somebody else, which would wait for our connections, goes the same way', async () => {
    await under('terminated', async () => {
      const old = (await site.postmaster()) ?? 0;
      signal(old, 'SIGTERM');
      await untilReplaced(old);
    });
  });

  it('answers 503 with Retry-After, or late, while PostgreSQL stands still', async () => {
    const { slowest } = await under('stopped', async () => {
      const postmaster = (await site.postmaster()) ?? 0;
      const all = [postmaster, ...(await childrenOf(postmaster))];
      for (const pid of all) signal(pid, 'SIGSTOP');
      const asked = send(server.host, 'HEAD', kept.blobPath);
      await sleep(STOPPED_MS);
      for (const pid of all) signal(pid, 'SIGCONT');
      expect((await asked)?.status).to.be.oneOf([200, 503]);
    });
    expect(slowest).to.be.below(STOPPED_MS + 20_000);
  });
});
