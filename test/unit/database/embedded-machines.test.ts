import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { ask, failureOf, isAlive, kill, killPid, postmasterOf, Scene, until } from './embedded-scene.js';

const HERE = { boot: 'here', local: false };
const THERE = { boot: 'there', local: false };
/** As much as a busy machine needs between two signs of life. */
const QUICK = { beatMs: 200, watchMs: 10_000, fenceMs: 3_000 };
/** Nobody waits so long. */
const NEVER = { beatMs: 200, watchMs: 1e9, fenceMs: 1e9 };

describe('the embedded PostgreSQL of a folder that several machines share', function () {
  this.timeout(120_000);
  const scene = new Scene();
  afterEach(() => scene.clear());

  const leaseOf = (dataDir: string) => join(dataDir, 'postgres-lease');
  const traceOf = (dataDir: string) => join(dataDir, 'postgres/cluster/postmaster.pid');
  const fresh = async () => join(await scene.folder(), 'data');

  /** A data folder as a machine leaves it that dies while it runs PostgreSQL. */
  async function leftBy(machine: typeof HERE): Promise<string> {
    const dataDir = await fresh();
    const server = await scene.start(dataDir, { machine, leaseTimes: QUICK });
    await ask(server.url, "create table facts as select 'kept' as fact");
    const lease = await readFile(leaseOf(dataDir));
    const trace = await readFile(traceOf(dataDir));
    await killPid(await postmasterOf(server.place));
    await server.exited;
    await writeFile(leaseOf(dataDir), lease);
    await writeFile(traceOf(dataDir), trace);
    return dataDir;
  }

  it('is refused while another machine runs it, and taken at once when that has ended', async () => {
    const dataDir = await fresh();
    const there = await scene.start(dataDir, { machine: THERE, leaseTimes: QUICK });
    const refused = await failureOf(scene.start(dataDir, { machine: HERE, leaseTimes: NEVER }));
    expect(refused.message).to.include('in use by a registry on another machine');
    expect(refused.message).to.include(`the process ${process.pid} on ${hostname()}`);
    expect(await ask(there.url, 'select 1')).to.equal(1);
    await there.stop();
    expect(existsSync(leaseOf(dataDir))).to.equal(false);
    const here = await scene.start(dataDir, { machine: HERE, leaseTimes: NEVER });
    expect(await ask(here.url, 'select 1')).to.equal(1);
  });

  it('is made by one of two that begin at once', async () => {
    const dataDir = await fresh();
    const starts = [HERE, THERE].map((machine) => scene.start(dataDir, { machine, leaseTimes: QUICK }));
    const outcomes = await Promise.allSettled(starts);
    expect(outcomes.map(({ status }) => status)).to.have.members(['fulfilled', 'rejected']);
    const loser = outcomes.find((outcome) => outcome.status === 'rejected');
    expect(String(loser?.reason)).to.include('in use by a registry on another machine');
  });

  it('is taken over when another machine gives no sign of life, whose server is made to end first', async () => {
    const dataDir = await leftBy(THERE);
    const starting = scene.start(dataDir, { machine: HERE, leaseTimes: { ...QUICK, watchMs: 1_000 } });
    await until(async () => !existsSync(traceOf(dataDir)));
    // Whoever comes meanwhile finds us.
    const third = await failureOf(
      scene.start(dataDir, { machine: { boot: 'third', local: false }, leaseTimes: NEVER }),
    );
    expect(third.message).to.include('in use by a registry on another machine');
    const here = await starting;
    expect(await ask(here.url, 'select fact from facts')).to.equal('kept');
  });

  it('is not waited for when the wait is broken off, and then not given away either', async () => {
    const dataDir = await leftBy(THERE);
    for (const leaseTimes of [NEVER, { ...NEVER, watchMs: 1_000 }]) {
      const stop = new AbortController();
      const started = failureOf(scene.start(dataDir, { machine: HERE, leaseTimes, signal: stop.signal }));
      if (leaseTimes !== NEVER) await until(async () => !existsSync(traceOf(dataDir)));
      stop.abort();
      expect((await started).name).to.equal('AbortError');
      expect(existsSync(leaseOf(dataDir))).to.equal(true);
    }
  });

  it('is taken at once after a crash where no other machine can be', async () => {
    const before = await leftBy({ boot: 'before', local: true });
    const after = await scene.start(before, { machine: { boot: 'after', local: true }, leaseTimes: NEVER });
    expect(await ask(after.url, 'select fact from facts')).to.equal('kept');
    // Another container of this machine, by whatever name.
    const killed = await leftBy(HERE);
    const again = await scene.start(killed, { machine: HERE, leaseTimes: NEVER });
    expect(await ask(again.url, 'select fact from facts')).to.equal('kept');
  });

  it('is left to another machine that took it over from one that stood still', async () => {
    const dataDir = await fresh();
    const here = await scene.start(dataDir, { machine: HERE, leaseTimes: QUICK });
    const pid = await postmasterOf(here.place);
    const taken = JSON.stringify({ id: 'another', host: 'elsewhere', pid: 1, ...THERE });
    let exited = false;
    void here.exited.then(() => {
      exited = true;
    });
    // A sign of life that is being given at this moment may still come after it.
    await until(async () => {
      await writeFile(leaseOf(dataDir), taken);
      return exited;
    });
    expect(await isAlive(pid)).to.equal(false);
    expect(await readFile(leaseOf(dataDir), 'utf8')).to.equal(taken);
    // By hand, where the other is sure to have ended.
    await rm(leaseOf(dataDir));
    const again = await scene.start(dataDir, { machine: HERE, leaseTimes: NEVER });
    expect(await ask(again.url, 'select 1')).to.equal(1);
    await rm(leaseOf(dataDir));
    await until(async () => existsSync(leaseOf(dataDir)));
  });

  it('goes on for a registry of this machine that is started after one that was killed', async () => {
    const dataDir = await fresh();
    const registry = await scene.registry(dataDir);
    await registry.next();
    const pid = await postmasterOf(join(dataDir, 'postgres'));
    await kill(registry.child);
    const server = await scene.start(dataDir, { leaseTimes: NEVER });
    expect(server.adopted).to.equal(true);
    expect(await postmasterOf(server.place)).to.equal(pid);
  });
});
