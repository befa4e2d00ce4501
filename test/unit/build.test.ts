import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

// Servers compile what is stale when they start, and many start at once.
describe('compiling', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-test-build-'));
    for (const name of ['bin', 'tsconfig.json', 'tsconfig.src.json'])
      await cp(join(ROOT, name), join(folder, name), { recursive: true });
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    await mkdir(join(folder, 'src'));
    await mkdir(join(folder, 'test'));
    await source('src/main.ts', "export const said: string = 'first';\n");
    await source('test/main.test.ts', "import { said } from '../src/main.js';\nif (said === '') throw new Error();\n");
  });
  afterEach(async () => await rm(folder, { recursive: true }));

  const source = async (path: string, text: string) => await writeFile(join(folder, path), text);
  const build = async (what: string) => await run(process.execPath, ['bin/build.js', what], { cwd: folder });
  const compiled = join('dist', 'src', 'main.js');
  const text = async () => await readFile(join(folder, compiled), 'utf8');
  const written = async () => (await stat(join(folder, compiled), { bigint: true })).mtimeNs;

  it('has nothing left to do for a server when the tests were compiled', async function () {
    this.timeout(300_000);
    await build('all');
    const names = await readdir(join(folder, 'dist'));
    expect(names).to.include('src').and.include('test');
    const before = await written();
    await build('src');
    expect(await written()).to.equal(before);
    expect(await readdir(join(folder, 'dist'))).to.deep.equal(names);
  });

  it('puts a new file into the place of the old one, whole, and leaves what did not change', async function () {
    this.timeout(300_000);
    await build('src');
    const first = await stat(join(folder, compiled));
    await source('src/main.ts', "export const said: string = 'second';\n");
    await build('src');
    const second = await stat(join(folder, compiled));
    expect(await text()).to.include('second');
    expect(second.ino).to.not.equal(first.ino);
    await source('src/other.ts', 'export const other = 1;\n');
    await build('all');
    expect((await stat(join(folder, compiled))).ino).to.equal(second.ino);
  });

  it('writes nothing that does not compile, and says where it is wrong', async function () {
    this.timeout(300_000);
    await build('src');
    await source('src/main.ts', "export const said: number = 'third';\n");
    const error = await build('src').then(
      () => undefined,
      (thrown: { code: number; stderr: string }) => thrown,
    );
    expect(error?.code).to.equal(1);
    expect(error?.stderr).to.include('src/main.ts(1,14): error TS2322');
    expect(await text()).to.include('first');
    await source('src/main.ts', "export const said: string = 'third';\n");
    await build('src');
    expect(await text()).to.include('third');
  });
});
