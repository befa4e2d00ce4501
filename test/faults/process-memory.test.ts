import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { startServer } from '../support/server.js';
import { Content } from './support/bytes.js';
import { Exchange } from './support/exchange.js';
import { Gate } from './support/gate.js';
import { memoryOf } from './support/processes.js';
import { Upload } from './support/upload.js';

const MiB = 1024 * 1024;
const LARGE_MIB = Number(process.env.FAULT_LARGE_MIB ?? 512);
const SLOW = 64;
/** Of one process. Node itself takes some 100 MiB, and uploads may hold 64. */
const BOUND_MIB = 400;

describe('memory', function () {
  this.timeout(600_000);

  it('stays flat in every worker under 64 slow uploads beside a large one', async () => {
    const server = await startServer();
    try {
      const host = server.host;
      const workers = await server.workers();
      const highest = new Map(workers.map((pid) => [pid, { rss: 0, pss: 0, peak: 0 }]));
      let over = false;
      const watch = (async () => {
        while (!over) {
          for (const [pid, high] of highest) {
            const now = await memoryOf(pid);
            for (const key of ['rss', 'pss', 'peak'] as const) high[key] = Math.max(high[key], now[key]);
          }
          await sleep(200);
        }
      })();
      const traffic = { host, gate: new Gate(), acknowledged: () => undefined };
      const large = new Upload(traffic, 'memory', new Content('large', LARGE_MIB * MiB));
      // The client's own bytes and their digest are made beforehand, so that they don't slow the upload.
      expect(large.content.digest).to.be.a('string');
      await large.begin();
      const slow = Array.from({ length: SLOW }, async (_, index) => {
        const upload = new Upload(traffic, 'memory', new Content(`slow ${index}`, 1));
        await upload.begin();
        const exchange = new Exchange(host, 'PATCH', upload.path);
        const piece = Buffer.alloc(96 * 1024, index);
        for (let sent = 0; sent < 16 || !over; sent++) {
          if (!(await exchange.write(piece))) break;
          await sleep(100);
        }
        exchange.end();
        return (await exchange.answer)?.status;
      });
      const began = performance.now();
      expect(await large.put()).to.equal('done');
      const seconds = (performance.now() - began) / 1000;
      over = true;
      expect(await Promise.all(slow)).to.deep.equal(Array.from({ length: SLOW }, () => 202));
      await watch;
      const figures = [...highest.values()].map(({ rss, pss, peak }) => `RSS ${rss}, PSS ${pss}, VmHWM ${peak}`);
      console.log(`      ${LARGE_MIB} MiB in ${seconds.toFixed(1)} s; MiB of each worker: ${figures.join('; ')}`);
      for (const { rss } of highest.values()) expect(rss).to.be.below(BOUND_MIB);
    } finally {
      await server.dispose();
    }
  });
});
