import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { untilLogged } from './support/processes.js';
import { runCommand } from './support/command.js';
import { notRun } from '../support/not-run.js';
import { startServer } from '../support/server.js';
import { send } from './support/exchange.js';

const run = promisify(execFile);
const isRoot = process.getuid?.() === 0;

describe('the place of the data folder', function () {
  this.timeout(120_000);
  let folder: string;
  beforeEach(async () => {
    folder = await realpath(await mkdtemp(join(tmpdir(), 'weighhouse-places-')));
  });
  afterEach(() => rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));

  async function refusal(dataDir: string): Promise<string> {
    const { code, said } = await runCommand('serve', { REGISTRY_DATA_DIR: dataDir });
    expect(code).to.equal(1);
    expect(said).to.match(/^weighhouse: /m);
    expect(said, 'words instead of a stack').not.to.match(/^ {4}at /m);
    expect(said).to.include(dataDir);
    return said;
  }

  it('is named in the error when it is no folder or can not be made', async () => {
    const file = join(folder, 'file');
    await writeFile(file, '');
    await refusal(file);
    await refusal(join(file, 'below'));
  });

  it('is named in the error when it is read-only', async function () {
    const place = join(folder, 'read-only');
    await mkdir(place);
    if (!isRoot) {
      await chmod(place, 0o500);
      await refusal(join(place, 'data'));
      return;
    }
    try {
      await run('mount', ['-t', 'tmpfs', '-o', 'ro,size=1m', 'weighhouse-test', place]);
    } catch (error) {
      notRun(this, 'read-only data folder', (error as Error).message.split('\n')[1] ?? '');
    }
    try {
      expect(await refusal(join(place, 'data'))).to.include('read-only');
      expect(await refusal(place)).to.include('read-only');
    } finally {
      await run('umount', [place]);
    }
  });

  it('may be one of root that nobody else can enter, and PostgreSQL lies elsewhere, which is printed', async function () {
    if (!isRoot) notRun(this, "root's folder of mode 0700", 'it needs root');
    await chmod(folder, 0o700);
    const dataDir = join(folder, 'data');
    const server = await startServer({ embedded: true, environment: { REGISTRY_DATA_DIR: dataDir } });
    const { place } = JSON.parse(await readFile(join(dataDir, 'postgres-place'), 'utf8')) as { place: string };
    try {
      expect(place.startsWith(folder)).to.equal(false);
      await untilLogged(server, `PostgreSQL  ${place}\n`);
      expect((await send(server.host, 'GET', '/v2/'))?.status).to.equal(200);
      expect(await server.stop()).to.equal(0);
      await server.start();
      expect((await send(server.host, 'GET', '/v2/'))?.status).to.equal(200);
    } finally {
      await server.dispose();
      await rm(place, { recursive: true, force: true });
    }
  });
});
