import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { startServer, type TestServer } from '../support/server.js';
import { Chance } from './support/bytes.js';
import { Crowd } from './support/crowd.js';
import { EmbeddedSite } from './support/embedded.js';
import { Gate } from './support/gate.js';
import { checkStore, Ledger } from './support/oracle.js';
import { isAlive, signal, until } from './support/processes.js';

const SEED = Number(process.env.FAULT_SEED ?? Math.floor(Math.random() * 2 ** 32));
const ROUNDS = Number(process.env.FAULT_ROUNDS ?? 4);

/** Waits for a moment that nobody chose: some time, or just when something was acknowledged. */
async function someMoment(chance: Chance, acknowledged: { next: (() => void) | undefined }): Promise<void> {
  await sleep(chance.whole(20, 1_500));
  if (chance.next() < 0.5) return;
  for (let left = chance.whole(1, 5); left > 0; left--) {
    const heard = new Promise<void>((resolve) => {
      acknowledged.next = resolve;
    });
    await Promise.race([heard, sleep(1_000)]);
  }
}

interface Round {
  readonly server: TestServer;
  readonly chance: Chance;
  readonly ledger: Ledger;
  readonly name: string;
}

function makeCrowd({ server, chance, ledger, name }: Round) {
  const acknowledged: { next: (() => void) | undefined } = { next: undefined };
  const gate = new Gate();
  const traffic = { host: server.host, gate, acknowledged: () => acknowledged.next?.() };
  const crowd = new Crowd(traffic, ledger, name);
  crowd.start(chance);
  return { crowd, gate, moment: () => someMoment(chance, acknowledged) };
}

/** Everything is killed and started again; the oracle looks before the clients go on, and after they have ended. */
async function killEverything(round: Round, kill: () => Promise<void>, check: () => Promise<void>): Promise<void> {
  const { crowd, gate, moment } = makeCrowd(round);
  await moment();
  gate.close();
  await kill();
  await gate.allWait();
  await round.server.start();
  await round.ledger.check(round.server.host, false);
  await check();
  gate.open();
  await crowd.stop();
}

/** One worker is killed; the clients go on at once with the others, and another worker comes. */
async function killWorker(round: Round): Promise<void> {
  const { crowd, moment } = makeCrowd(round);
  await moment();
  const before = await round.server.workers();
  const victim = round.chance.pick(before);
  signal(victim, 'SIGKILL');
  await until('another worker came', async () => {
    const now = await round.server.workers();
    return now.length === before.length && !now.includes(victim);
  });
  await crowd.stop();
}

async function killPrimary(round: Round, check: () => Promise<void>): Promise<void> {
  const { server } = round;
  const kill = async () => {
    const workers = await server.workers();
    signal(server.process.pid ?? 0, 'SIGKILL');
    // Nobody is left who would start or stop them, so they end of themselves.
    for (const pid of workers) await until(`worker ${pid} ended`, async () => !(await isAlive(pid)));
  };
  await killEverything(round, kill, check);
}

describe('kill -9', function () {
  this.timeout(600_000);

  before(() => console.log(`      FAULT_SEED=${SEED} FAULT_ROUNDS=${ROUNDS}`));

  it('loses nothing that was acknowledged when a worker, the primary process or all of them die', async () => {
    const server = await startServer({ environment: { REGISTRY_WORKERS: '3' } });
    const chance = new Chance(SEED);
    const ledger = new Ledger();
    const root = join(server.environment.REGISTRY_DATA_DIR ?? '', 'blobs');
    const check = () => checkStore(server.environment.REGISTRY_DATABASE_URL ?? '', root);
    try {
      for (let index = 0; index < ROUNDS; index++) {
        const round = { server, chance, ledger, name: `round${index}` };
        const victim = ['worker', 'everything', 'worker', 'primary'][index % 4];
        if (victim === 'worker') await killWorker(round);
        else if (victim === 'primary') await killPrimary(round, check);
        else await killEverything(round, () => server.kill(), check);
        await check();
      }
      await ledger.check(server.host, true);
      expect(ledger.uploads.filter((upload) => upload.committed)).to.have.length.above(ROUNDS);
      tell(ledger);
    } finally {
      await server.dispose();
    }
  });

  it('loses nothing that was acknowledged when the embedded PostgreSQL dies with the registry', async () => {
    const site = await EmbeddedSite.make();
    try {
      const server = await site.start({ REGISTRY_WORKERS: '2' });
      const chance = new Chance(SEED + 1);
      const ledger = new Ledger();
      const check = async () => checkStore(await site.url(), site.blobs);
      const kill = async () => {
        const both = [server.kill(), site.killPostgres()];
        await Promise.all(chance.next() < 0.5 ? both : both.reverse());
      };
      for (let index = 0; index < Math.ceil(ROUNDS / 2); index++) {
        await killEverything({ server, chance, ledger, name: `all${index}` }, kill, check);
        await check();
      }
      await ledger.check(server.host, true);
      tell(ledger);
      expect(await server.stop()).to.equal(0);
      expect(await site.postmaster()).to.equal(undefined);
    } finally {
      await site.clear();
    }
  });
});

function tell({ uploads, tags }: Ledger): void {
  const committed = uploads.filter((upload) => upload.committed);
  const mebibytes = Math.round(committed.reduce((sum, { content }) => sum + content.size, 0) / 1024 / 1024);
  const open = uploads.length - committed.length;
  console.log(
    `      ${committed.length} blobs (${mebibytes} MiB), ${open} open sessions and ${tags.length} tags are right`,
  );
}
