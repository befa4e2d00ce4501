import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { Health } from '../../../src/commands/health.js';
import { createLog } from '../../../src/log.js';

interface Line {
  readonly level: string;
  readonly check?: string;
}

function health(limitMs = 50): { health: Health; lines: Line[]; drain(): void } {
  const lines: Line[] = [];
  let draining = false;
  const log = createLog('info', { write: (line: string) => lines.push(JSON.parse(line) as Line) });
  return {
    health: new Health({ version: '1.2.3', limitMs, draining: () => draining, log }),
    lines,
    drain: () => {
      draining = true;
    },
  };
}

const well = async () => undefined;

describe('the health of a node', () => {
  it('is out until all that it needs is looked at', async () => {
    const { health: node } = health();
    node.watch('database', well);
    const { status, checks } = await node.report();
    expect(status).to.equal('unavailable');
    expect(checks).to.deep.equal({
      database: { status: 'ok' },
      storage: { status: 'unavailable' },
      disk: { status: 'unavailable' },
      workers: { status: 'unavailable' },
    });
  });

  it('is found out once for all who ask within a second', async () => {
    const { health: node } = health();
    let looks = 0;
    node.watch('database', async () => {
      looks += 1;
    });
    node.watch('storage', well);
    node.watch('disk', well);
    node.watch('workers', well);
    for (let round = 0; round < 3; round++) {
      const reports = await Promise.all(Array.from({ length: 20 }, () => node.report()));
      for (const { status } of reports) expect(status).to.equal('ok');
    }
    expect(looks).to.equal(1);
  });

  it('does not begin a check again that hangs, looks at the others beside it, and takes it up when it ends', async function () {
    this.timeout(10_000);
    const { health: node, lines } = health();
    let looks = 0;
    let end = () => {};
    node.watch('storage', async () => {
      looks += 1;
      if (looks === 1) await new Promise<void>((resolve) => (end = resolve));
    });
    node.watch('database', well);
    node.watch('disk', well);
    node.watch('workers', well);
    for (let round = 0; round < 2; round++) {
      const begun = performance.now();
      const { checks } = await node.report();
      expect(performance.now() - begun).to.be.below(1_000);
      expect(checks).to.deep.equal({
        database: { status: 'ok' },
        storage: { status: 'unavailable' },
        disk: { status: 'ok' },
        workers: { status: 'ok' },
      });
      await sleep(1_050);
    }
    expect(looks).to.equal(1);
    end();
    await sleep(0);
    expect((await node.report()).status).to.equal('ok');
    expect(lines.map(({ level, check }) => `${level} ${check}`)).to.deep.equal(['error storage', 'info storage']);
  });

  it('says that the node drains although all is well, at once', async () => {
    const { health: node, drain } = health();
    for (const name of ['database', 'storage', 'disk', 'workers'] as const) node.watch(name, well);
    expect((await node.report()).status).to.equal('ok');
    drain();
    expect((await node.report()).status).to.equal('draining');
  });

  it('tells the reason to the log alone', async () => {
    const { health: node, lines } = health();
    node.watch('database', () => Promise.reject(new Error('a word of the inside')));
    expect(JSON.stringify(await node.report())).not.to.include('inside');
    expect(JSON.stringify(lines)).to.include('a word of the inside');
  });
});
