import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { startServer, type TestServer } from '../support/server.js';
import { putManifest, type TagStory } from './support/artifact.js';
import { Content } from './support/bytes.js';
import { type Answer, pull, send } from './support/exchange.js';
import { Gate } from './support/gate.js';
import { notRun } from '../support/not-run.js';
import { checkStore, Ledger } from './support/oracle.js';
import { Upload } from './support/upload.js';

const run = promisify(execFile);
const MiB = 1024 * 1024;
const SMALL_MIB = 24;

describe('a full disk', function () {
  this.timeout(120_000);
  let folder: string;
  let server: TestServer;
  let root: string;
  const ballast = () => join(root, 'lost+found');

  before(async function () {
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-disk-'));
    await chmod(folder, 0o711);
    root = join(folder, 'blobs');
    await mkdir(root);
    try {
      await run('mount', ['-t', 'tmpfs', '-o', `size=${SMALL_MIB}m`, 'weighhouse-test', root]);
    } catch (error) {
      await rm(folder, { recursive: true });
      notRun(
        this,
        'disk full',
        `no small file system could be mounted: ${(error as Error).message.split('\n')[1] ?? ''}`,
      );
    }
    // Only what the tests do takes room and gives it back.
    const quiet = { REGISTRY_JOB_INTERVAL: '3600', REGISTRY_RECORD_INTERVAL: '3600' };
    server = await startServer({ environment: { REGISTRY_FILESYSTEM_ROOT: root, ...quiet } });
  });
  after(async () => {
    if (!root) return;
    await server?.dispose();
    await run('umount', [root]).catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  });

  const traffic = () => ({ host: server.host, gate: new Gate(), acknowledged: () => undefined });

  function expectFull(answer: Answer | 'done' | undefined): void {
    if (answer === 'done' || answer === undefined)
      throw new Error(`a 507 was expected, not ${answer ?? 'a broken connection'}`);
    expect(answer.status).to.equal(507);
    expect(answer.body.toString()).to.include('no room');
    expect(Number(answer.headers['retry-after'])).to.be.above(0);
  }

  async function resize(options: string): Promise<void> {
    await run('mount', ['-o', `remount,${options}`, root]);
  }

  it('refuses an upload with 507, tells the true offset, and takes the rest when there is room', async () => {
    const ledger = new Ledger();
    for (const method of ['PUT', 'PATCH', 'chunks'] as const) {
      const upload = new Upload(traffic(), 'full', new Content(`disk full ${method}`, 40 * MiB));
      ledger.uploads.push(upload);
      await upload.begin();
      if (method === 'PUT') expectFull(await upload.put());
      else if (method === 'PATCH') expectFull(await upload.patch(upload.content.size));
      else {
        let answer: Answer | 'done' | undefined = 'done';
        while (answer === 'done') answer = await upload.patch(upload.told + 3 * MiB, { ranged: true });
        expectFull(answer);
      }
      const offset = (await upload.status()) ?? -1;
      expect(offset).to.be.within(method === 'chunks' ? upload.told : 0, SMALL_MIB * MiB);
      // No 404 and no bytes: nothing was committed.
      expect((await send(server.host, 'HEAD', upload.blobPath))?.status).to.equal(404);
      // Asked again while there is no room, it says so again and loses nothing.
      expectFull(await upload.put({ ranged: true }));
      expect(await upload.status()).to.be.at.least(offset);
      await resize('size=160m');
      expect(await upload.put({ ranged: true })).to.equal('done');
      const pulled = await pull(server.host, upload.blobPath);
      expect(pulled).to.include({ status: 200, size: upload.content.size, digest: upload.content.digest });
      console.log(`      ${method}: 507 at ${offset} of ${upload.content.size} bytes`);
      // Full again for the next: what is in use stays.
      const { stdout } = await run('df', ['--output=used', '-B1', root]);
      const used = Number(stdout.trim().split('\n').at(-1));
      await resize(`size=${Math.ceil(used / MiB + SMALL_MIB - 12)}m`);
    }
    await ledger.check(server.host, true);
    await checkStore(server.environment.REGISTRY_DATABASE_URL ?? '', root);
  });

  it('goes on to take manifests and tags, which need no file, and to serve what it has', async () => {
    await resize('size=200m');
    const layer = new Upload(traffic(), 'full/small', new Content('a small layer', 5_000));
    await layer.finish();
    const story: TagStory = { repository: 'full/small', tag: 'v1', acknowledged: undefined, unheard: new Set() };
    await putManifest(traffic(), story, [layer.content]);
    await mkdir(ballast());
    await writeFile(join(ballast(), 'ballast'), Buffer.alloc(200 * MiB)).catch((error: NodeJS.ErrnoException) =>
      expect(error.code).to.equal('ENOSPC'),
    );
    const again = await send(server.host, 'GET', '/v2/full/small/manifests/v1');
    const headers = { 'content-type': String(again?.headers['content-type']) };
    const body = Buffer.from(`${again?.body.toString()}\n`);
    const put = await send(server.host, 'PUT', '/v2/full/small/manifests/v2', { headers, body });
    expect(put?.status).to.equal(201);
    expect((await pull(server.host, layer.blobPath))?.digest).to.equal(layer.content.digest);
    const refused = new Upload(traffic(), 'full/small', new Content('no room for it', 100_000));
    await refused.begin();
    expectFull(await refused.put());
    expectFull(await refused.patch(50_000));
    expect(await refused.status()).to.equal(0);
    await rm(ballast(), { recursive: true });
    expect(await refused.put()).to.equal('done');
    expect((await pull(server.host, refused.blobPath))?.digest).to.equal(refused.content.digest);
  });

  it('says the same when not the bytes but the files have run out', async () => {
    const { stdout } = await run('df', ['--output=iused', root]);
    await resize(`nr_inodes=${Number(stdout.trim().split('\n').at(-1))}`);
    const upload = new Upload(traffic(), 'full/files', new Content('one file more', 100_000));
    await upload.begin();
    expectFull(await upload.put());
    await resize('nr_inodes=10000');
    expect(await upload.put()).to.equal('done');
    expect((await pull(server.host, upload.blobPath))?.digest).to.equal(upload.content.digest);
  });
});
