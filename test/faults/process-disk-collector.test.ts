import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { makeImage, type Made, digestOf } from '../soak/support/content.js';
import { notRun } from '../support/not-run.js';
import { createDatabase } from '../support/postgres.js';
import { startServer, type TestServer } from '../support/server.js';
import { runCommand } from './support/command.js';
import { send } from './support/exchange.js';
import { ask, filesOf } from './support/oracle.js';
import { until } from './support/processes.js';

const run = promisify(execFile);
const MiB = 1024 * 1024;
const PATIENCE_MS = 60_000;

/** Times as short as they can be. */
const HASTE = {
  REGISTRY_UPLOAD_LIFETIME: '1',
  REGISTRY_COLLECT_GRACE: '1',
  REGISTRY_COLLECT_INTERVAL: '1',
  REGISTRY_COLLECT_WALK_INTERVAL: '1',
  REGISTRY_READ_GRACE: '0',
  REGISTRY_REMOVAL_DELAY: '0',
  REGISTRY_REMOVAL_SHARE: '100',
  REGISTRY_JOB_INTERVAL: '1',
  REGISTRY_RECORD_INTERVAL: '1',
};

const blobOf = (text: string, size = 4 * MiB) => {
  const bytes = Buffer.alloc(size, text);
  return { digest: digestOf(bytes), bytes };
};

describe('a disk that is full or refuses', function () {
  this.timeout(180_000);
  let folder: string;
  let root: string;
  let server: TestServer;
  const url = () => server.environment.REGISTRY_DATABASE_URL ?? '';

  beforeEach(async function () {
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-disk-'));
    await chmod(folder, 0o711);
    root = join(folder, 'blobs');
    await mkdir(root);
    try {
      await run('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'weighhouse-test', root]);
    } catch (error) {
      await rm(folder, { recursive: true });
      const [, why = ''] = (error as Error).message.split('\n');
      notRun(this, 'disk full for the collector', `no small file system could be mounted: ${why}`);
    }
    server = await startServer({ environment: { REGISTRY_FILESYSTEM_ROOT: root, ...HASTE } });
  });
  afterEach(async () => {
    await server?.dispose();
    await run('umount', [root]).catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  });

  async function push(made: Made, tag: string): Promise<void> {
    const octets = { 'content-type': 'application/octet-stream' };
    for (const { digest, bytes } of made.blobs)
      expect(
        (
          await send(server.host, 'POST', `/v2/full/model/blobs/uploads/?digest=${digest}`, {
            body: bytes,
            headers: octets,
          })
        )?.status,
      ).to.equal(201);
    const headers = { 'content-type': made.mediaType };
    const put = await send(server.host, 'PUT', `/v2/full/model/manifests/${tag}`, { body: made.payload, headers });
    expect(put?.status).to.equal(201);
  }

  /** Objects of blobs; records and what the registry keeps for itself are beside them. */
  const objects = async () => [...(await filesOf(root)).values()].filter((size) => size >= 4 * MiB).length;
  const written = () =>
    until('all is written down', async () => (await ask(url(), 'select from records')).length === 0, PATIENCE_MS);
  const fill = async () => {
    await mkdir(join(root, 'lost+found'), { recursive: true });
    await writeFile(join(root, 'lost+found', 'ballast'), Buffer.alloc(64 * MiB)).catch((error: NodeJS.ErrnoException) =>
      expect(error.code).to.equal('ENOSPC'),
    );
  };
  const removeImage = async ({ digest }: Made) =>
    expect((await send(server.host, 'DELETE', `/v2/full/model/manifests/${digest}`))?.status).to.equal(202);

  it('gives its room back by itself when something is deleted, and then has the records of it', async () => {
    const [kept, gone] = [makeImage([blobOf('kept')], 'kept'), makeImage([blobOf('gone')], 'gone')];
    await push(kept, 'kept');
    await push(gone, 'gone');
    await written();
    await fill();
    await removeImage(gone);
    await until('its object is gone', async () => (await objects()) === 1, PATIENCE_MS);
    await written();
    expect((await send(server.host, 'GET', `/v2/full/model/blobs/${blobOf('kept').digest}`))?.status).to.equal(200);
    // Less, since records took some of the room.
    await push(makeImage([blobOf('new', MiB)], 'new'), 'new');
  });

  it('that can be read only keeps what was collected until it can be written again', async () => {
    const gone = makeImage([blobOf('gone')], 'gone');
    await push(gone, 'gone');
    await written();
    await run('mount', ['-o', 'remount,ro', root]);
    await removeImage(gone);
    await until(
      'it is tried',
      async () => (await server.log()).includes('an object could not be removed; it will be tried again'),
      PATIENCE_MS,
    );
    expect(await ask(url(), 'select from blobs where size > 1000000'), 'collected all the same').to.have.length(0);
    expect(await objects()).to.equal(1);
    await run('mount', ['-o', 'remount,rw', root]);
    await ask(url(), 'update removals set not_before = now()');
    await until('its object is gone', async () => (await objects()) === 0, PATIENCE_MS);
    await written();
  });

  it('has room enough for a rebuild, unless something is still to be written down, which it says and does later', async () => {
    const [kept, gone] = [makeImage([blobOf('kept')], 'kept'), makeImage([blobOf('gone', 100)], 'gone')];
    await push(kept, 'kept');
    await push(gone, 'gone');
    await written();
    await fill();
    await removeImage(gone);
    await until('that is a record', async () => (await ask(url(), 'select from records')).length > 0, PATIENCE_MS);
    await server.stop();
    const { REGISTRY_LISTEN: _taken, ...settings } = { REGISTRY_LISTEN: '', ...server.environment };
    const database = await createDatabase();
    const empty = { ...settings, REGISTRY_DATABASE_URL: database.url };
    const fresh = await runCommand('fsck', empty, ['--rebuild']);
    expect(fresh.code, fresh.said).to.equal(0);
    const full = await runCommand('fsck', settings, ['--rebuild']);
    expect(full.code).to.equal(1);
    expect(full.said).to.include('the storage has no room left');
    expect(await ask(url(), 'select from records'), 'nothing is lost').not.to.have.length(0);
    await rm(join(root, 'lost+found'), { recursive: true });
    const later = await runCommand('fsck', settings, ['--rebuild']);
    expect(later.code, later.said).to.equal(0);
    expect(await ask(url(), 'select from records')).to.have.length(0);
    const again = await startServer({ environment: empty });
    try {
      expect((await send(again.host, 'GET', '/v2/full/model/manifests/kept'))?.status).to.equal(200);
      const pulled = await send(again.host, 'GET', `/v2/full/model/blobs/${blobOf('kept').digest}`);
      expect(pulled?.body.length).to.equal(4 * MiB);
    } finally {
      await again.dispose();
      await database.drop();
    }
  });
});
