import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { checkFolder, roomOf } from '../../../src/storage/folder-check.js';
import { notRun } from '../../support/not-run.js';

const run = promisify(execFile);
const MODULE = new URL('../../../src/storage/folder-check.js', import.meta.url).href;

describe('what a folder of blobs has to do', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-folder-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('is tried, also where it has to be made first, and leaves nothing behind', async () => {
    const root = join(folder, 'new', 'blobs');
    expect(await checkFolder(root)).to.equal(true);
    expect(await readdir(root)).to.deep.equal([]);
    expect((await roomOf(root)).takesFiles).to.equal(true);
  });

  for (const { call, error = 'EPERM', said } of [
    { call: '/^link', said: /second name \(link\)/ },
    { call: '/^rename', said: /take the place of another one \(rename\)/ },
    { call: 'fdatasync', error: 'EINVAL', said: /file can not be synced/ },
    { call: 'fsync', error: 'EINVAL:when=2', said: /folder can not be synced/ },
    { call: '/^pwrite', error: 'EIO', said: /written at any place/ },
    { call: '/^unlink', error: 'EACCES:when=1', said: /removed/ },
  ]) {
    it(`is missed by one whose ${call.replace('/^', '')} fails, and the folder is named`, async function () {
      await run('strace', ['-V']).catch(() => notRun(this, 'strace', 'it is not installed (apt-get install strace)'));
      const script = `import { checkFolder } from '${MODULE}';
        await checkFolder(process.argv[1]).catch((error) => console.log(error.message, error.cause.code));`;
      const node = [process.execPath, '--input-type=module', '-e', script, folder];
      const inject = ['-e', `trace=${call}`, '-e', `inject=${call}:error=${error}`];
      // One thread does the work: then the N-th call is the N-th.
      const env = { ...process.env, UV_THREADPOOL_SIZE: '1' };
      const { stdout } = await run('strace', ['-f', '-qq', '-o', '/dev/null', ...inject, ...node], { env });
      expect(stdout).to.match(said);
      expect(stdout).to.include(folder);
      expect(stdout).to.match(new RegExp(`${error.replace(/:.*/, '')}$`, 'm'));
    });
  }

  it('is not asked of one that is full: what it holds can be read', async function () {
    const place = join(folder, 'small');
    await mkdir(place);
    try {
      await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'weighhouse-test', place]);
    } catch (error) {
      notRun(this, 'a small file system', (error as Error).message.split('\n')[1] ?? '');
    }
    try {
      await writeFile(join(place, 'full'), Buffer.alloc(64 * 1024)).catch(() => undefined);
      expect(await checkFolder(place)).to.equal(false);
      expect((await readdir(place)).filter((name) => name !== 'full')).to.deep.equal([]);
    } finally {
      await run('umount', [place]);
    }
  });

  it('is named where it is a file, or one in which nothing can be made', async () => {
    await writeFile(join(folder, 'file'), '');
    const said = await checkFolder(join(folder, 'file')).catch((error: Error) => error.message);
    expect(said).to.equal(`the folder ${join(folder, 'file')} can't hold blobs: a folder can not be made`);
  });
});
