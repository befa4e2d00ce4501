import { once } from 'node:events';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { lockDataFolder } from '../../../src/database/data-folder.js';
import { failureOf, kill, Scene } from './embedded-scene.js';

describe('lock of the data folder', function () {
  this.timeout(60_000);
  const scene = new Scene();
  afterEach(() => scene.clear());

  // A process that tries to lock whenever it is told to, and lets go when told again.
  async function starter(dataDir: string) {
    const { child, next } = await scene.run(`
      const { lockDataFolder } = await import(sources + 'database/data-folder.js');
      let lock;
      process.stdin.on('data', async () => {
        if (lock) { await lock.release(); lock = undefined; tell('released'); return; }
        try { lock = await lockDataFolder(${JSON.stringify(dataDir)}); tell('locked'); } catch (error) { tell(error.message); }
      });
      tell('there');`);
    await next();
    const act = async (): Promise<string> => {
      child.stdin.write('x');
      return String(await next());
    };
    return { child, act };
  }

  it('refuses a second registry, naming the process of the first', async () => {
    const dataDir = join(await scene.folder(), 'data');
    const first = await starter(dataDir);
    expect(await first.act()).to.equal('locked');
    const error = await failureOf(lockDataFolder(dataDir));
    expect(error.message).to.match(new RegExp(`in use by another registry: the process ${first.child.pid} on `));
    expect(await first.act()).to.equal('released');
    await (await lockDataFolder(dataDir)).release();
    expect(await readdir(join(dataDir, 'lock'))).to.deep.equal([]);
  });

  it('is free again when its holder is killed', async () => {
    const dataDir = await scene.folder();
    const first = await starter(dataDir);
    expect(await first.act()).to.equal('locked');
    await kill(first.child);
    const lock = await lockDataFolder(dataDir);
    expect(await readdir(join(dataDir, 'lock'))).to.have.length(1);
    await lock.release();
  });

  it('stays with a holder that is stopped and can not answer', async () => {
    const dataDir = await scene.folder();
    const first = await starter(dataDir);
    expect(await first.act()).to.equal('locked');
    first.child.kill('SIGSTOP');
    expect((await failureOf(lockDataFolder(dataDir))).message).to.match(/a process that does not answer/);
    first.child.kill('SIGCONT');
    expect((await failureOf(lockDataFolder(dataDir))).message).to.match(
      new RegExp(`the process ${first.child.pid} on`),
    );
  });

  it('holds in a data folder whose path is too long for a socket', async () => {
    const dataDir = join(await scene.folder(), 'a'.repeat(120), 'data');
    await mkdir(dataDir, { recursive: true });
    const lock = await lockDataFolder(dataDir);
    expect((await failureOf(lockDataFolder(dataDir))).message).to.match(new RegExp(`the process ${process.pid} on`));
    expect(await readdir(join(dataDir, 'lock'))).to.have.length(1);
    await lock.release();
  });

  it('does not keep its process alive', async () => {
    const dataDir = await scene.folder();
    const { child } = await scene.run(
      `const { lockDataFolder } = await import(sources + 'database/data-folder.js');
       await lockDataFolder(${JSON.stringify(dataDir)});`,
    );
    await once(child, 'exit');
    expect(child.exitCode).to.equal(0);
    await (await lockDataFolder(dataDir)).release();
  });

  it('is won by exactly one of ten that start together, twenty times', async function () {
    this.timeout(180_000);
    const dataDir = await scene.folder();
    const starters = await Promise.all(Array.from({ length: 10 }, () => starter(dataDir)));
    for (let round = 0; round < 20; round++) {
      const answers = await Promise.all(starters.map((one) => one.act()));
      const winners = answers.flatMap((answer, index) => (answer === 'locked' ? [index] : []));
      expect(winners, `round ${round}: ${answers.join('; ')}`).to.have.length(1);
      const [index = 0] = winners;
      const winner = starters[index];
      if (winner === undefined) continue;
      const refused = answers.filter((answer) => answer.includes('in use by another registry'));
      expect(refused).to.have.length(9);
      // Every other time the lock is not released but its holder killed.
      if (round % 2 === 0) expect(await winner.act()).to.equal('released');
      else {
        await kill(winner.child);
        starters[index] = await starter(dataDir);
      }
    }
  });
});
