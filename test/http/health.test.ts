import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { EmbeddedSite } from '../faults/support/embedded.js';
import { childrenOf, signal, until } from '../faults/support/processes.js';
import { notRun } from '../support/not-run.js';
import { freePort, startServer, type TestServer } from '../support/server.js';
import { openUpload } from './content.js';
import { exchange, head, Wire } from './wire.js';

const run = promisify(execFile);
const MiB = 1024 * 1024;

interface Health {
  readonly code: number;
  readonly status: string;
  readonly version: string;
  readonly checks: Readonly<Record<string, { readonly status: string }>>;
}

/** What a node says of itself to somebody without a key. */
async function healthAt(host: string): Promise<Health> {
  const answer = await exchange(host, 'GET', '/health', { headers: { authorization: '' } });
  return { code: answer.status, ...(JSON.parse(answer.body.toString()) as Omit<Health, 'code'>) };
}

/** Names of the checks that are out. */
function out({ checks }: Health): string[] {
  return Object.keys(checks).filter((name) => checks[name]?.status !== 'ok');
}

async function untilOut(host: string, names: readonly string[]): Promise<void> {
  await until(`${names.join() || 'nothing'} is out`, async () => {
    const health = await healthAt(host);
    expect(health.code).to.equal(out(health).length === 0 ? 200 : 503);
    expect(health.status).to.equal(out(health).length === 0 ? 'ok' : 'unavailable');
    return out(health).join() === names.join();
  });
}

/** Without waiting for a check, which would be in each of the answers: the machine may take its time for one of them. */
async function isLive(host: string): Promise<void> {
  const times: number[] = [];
  for (let round = 0; round < 3; round++) {
    const begun = performance.now();
    expect((await exchange(host, 'GET', '/health/live', { headers: { authorization: '' } })).status).to.equal(200);
    times.push(performance.now() - begun);
  }
  expect(Math.min(...times)).to.be.below(1_000);
}

describe('the health of a registry', function () {
  this.timeout(180_000);
  let server: TestServer;
  let operations: string;
  let marker: string;
  const hosts = () => [server.host, operations];

  before(async () => {
    operations = `127.0.0.1:${await freePort()}`;
    const environment = { REGISTRY_OPERATIONS_LISTEN: operations, REGISTRY_HEALTH_TIMEOUT: '1' };
    server = await startServer({ environment });
    marker = join(server.folder, 'data/blobs/weighhouse.marker');
    await untilOut(server.host, []);
  });
  after(async () => {
    await server?.dispose();
  });

  it('is told without a key on both listeners, with the version and no more than names and states', async () => {
    const { version } = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    const well = { status: 'ok' };
    for (const host of hosts()) {
      expect(await healthAt(host)).to.deep.equal({
        code: 200,
        status: 'ok',
        version,
        checks: { database: well, storage: well, disk: well, workers: well },
        degraded: [],
      });
      for (const path of ['/health', '/health/live']) {
        const answer = await exchange(host, 'HEAD', path, { headers: { authorization: '' } });
        expect(answer.status).to.equal(200);
        expect(answer.body).to.have.lengthOf(0);
        expect(Number(answer.headers['content-length'])).to.be.above(0);
        expect(answer.headers['cache-control']).to.equal('no-store');
      }
    }
  });

  it('is told also to who brings a wrong key, and to nobody by another path or method', async () => {
    const wrong = { authorization: 'Basic YTpi' };
    expect((await exchange(server.host, 'GET', '/health', { headers: wrong })).status).to.equal(200);
    for (const [method, path] of [
      ['GET', '/health/'],
      ['GET', '/Health'],
      ['GET', '/healthy'],
      ['GET', '/health/live/x'],
      ['GET', '/health/../v2/'],
      ['GET', '/health%2f..%2fv2/'],
      ['POST', '/health'],
      ['DELETE', '/health/live'],
      ['GET', '/metrics'],
    ] as const)
      expect((await exchange(server.host, method, path, { headers: wrong })).status, `${method} ${path}`).to.equal(401);
  });

  it('offers on the listener of operations nothing of what the registry holds', async () => {
    for (const path of ['/v2/', '/v2/_catalog', '/', '/health/x'])
      expect((await exchange(operations, 'GET', path)).status, path).to.equal(404);
    expect((await exchange(operations, 'POST', '/metrics')).status).to.equal(405);
  });

  it('is bad while the storage hangs, for any number who ask, and nothing else is', async () => {
    await rename(marker, `${marker}.kept`);
    // Whoever opens a pipe waits for the other end, in the kernel, as with a server of files that is away.
    await run('mkfifo', [marker]);
    try {
      await untilOut(server.host, ['storage']);
      const answers = await Promise.all(Array.from({ length: 50 }, () => healthAt(operations)));
      for (const health of answers) expect(out(health)).to.deep.equal(['storage']);
      for (const host of hosts()) await isLive(host);
    } finally {
      await writeFile(marker, await readFile(`${marker}.kept`));
      await rename(`${marker}.kept`, marker);
    }
    await untilOut(server.host, []);
  });

  it('does not keep a node from ending while the storage hangs', async () => {
    const environment = { REGISTRY_HEALTH_TIMEOUT: '1', REGISTRY_JOB_INTERVAL: '1', REGISTRY_DRAIN_TIMEOUT: '1' };
    const other = await startServer({ environment });
    const pipe = join(other.folder, 'data/blobs/weighhouse.marker');
    try {
      await rm(pipe);
      await run('mkfifo', [pipe]);
      await untilOut(other.host, ['storage']);
      // A thread that waits in the kernel can't be ended but with its process: no exit code.
      expect(await other.stop()).to.equal(null);
      expect(await other.log()).to.include('the storage hangs: ending without it');
    } finally {
      await other.dispose();
    }
  });

  it("is bad while the storage is another database's, or not mounted", async () => {
    const own = await readFile(marker, 'utf8');
    try {
      await writeFile(marker, `${crypto.randomUUID()}\n`);
      await untilOut(server.host, ['storage']);
      await rm(marker);
      await untilOut(operations, ['storage']);
    } finally {
      await writeFile(marker, own);
    }
    await untilOut(operations, []);
  });

  it('is bad while the disk has less room than is wanted, or no file can be made', async function () {
    const folder = await mkdtemp(join(tmpdir(), 'weighhouse-room-'));
    const root = join(folder, 'blobs');
    await chmod(folder, 0o711);
    await mkdir(root);
    try {
      await run('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'weighhouse-test', root]);
    } catch (error) {
      await rm(folder, { recursive: true });
      notRun(this, 'health of a full disk', `no small file system could be mounted: ${(error as Error).message}`);
    }
    const environment = { REGISTRY_FILESYSTEM_ROOT: root, REGISTRY_HEALTH_FREE_BYTES: String(8 * MiB) };
    const small = await startServer({ environment });
    try {
      await untilOut(small.host, []);
      const ballast = join(root, 'ballast');
      await writeFile(ballast, Buffer.alloc(17 * MiB));
      await untilOut(small.host, ['disk']);
      await rm(ballast);
      await untilOut(small.host, []);
      const { stdout } = await run('df', ['--output=iused', root]);
      await run('mount', ['-o', `remount,nr_inodes=${Number(stdout.trim().split('\n').at(-1))}`, root]);
      await untilOut(small.host, ['disk']);
      await run('mount', ['-o', 'remount,nr_inodes=10000', root]);
      await untilOut(small.host, []);
    } finally {
      await small.dispose();
      await run('umount', [root]);
      await rm(folder, { recursive: true });
    }
  });

  it('is bad while PostgreSQL stands still or has ended, and well again by itself', async () => {
    const site = await EmbeddedSite.make();
    const port = await freePort();
    try {
      const own = await site.start({
        REGISTRY_OPERATIONS_LISTEN: `127.0.0.1:${port}`,
        REGISTRY_HEALTH_TIMEOUT: '1',
        REGISTRY_DATABASE_TIMEOUT: '1',
      });
      const both = [own.host, `127.0.0.1:${port}`];
      for (const host of both) await untilOut(host, []);
      const postmaster = (await site.postmaster()) ?? 0;
      const stopped = [postmaster, ...(await childrenOf(postmaster))];
      for (const pid of stopped) signal(pid, 'SIGSTOP');
      try {
        for (const host of both) {
          await untilOut(host, ['database']);
          const begun = performance.now();
          expect(out(await healthAt(host))).to.deep.equal(['database']);
          // Whoever waits for PostgreSQL waits until it goes on.
          expect(performance.now() - begun).to.be.below(10_000);
          await isLive(host);
        }
      } finally {
        for (const pid of stopped) signal(pid, 'SIGCONT');
      }
      for (const host of both) await untilOut(host, []);
      await until('an ended PostgreSQL is noticed', async () => {
        await site.killPostgres();
        return out(await healthAt(own.host)).join() === 'database';
      });
      for (const host of both) await untilOut(host, []);
    } finally {
      await site.clear();
    }
  });

  it('says that the node drains, on the listener of operations, which stays to the end', async () => {
    const location = await openUpload(server, 'health/model');
    const upload = (await Wire.open(server.host)).write(head('PATCH', location, 'Content-Length: 10'));
    upload.write('half');
    // Asked on another connection, so that the upload is under way.
    await until('the upload runs', async () => {
      const text = (await exchange(operations, 'GET', '/metrics')).body.toString();
      return /^weighhouse_requests_in_flight 1$/m.test(text);
    });
    const ended = server.stop();
    await until('the drain shows', async () => (await healthAt(operations)).status === 'draining');
    expect((await healthAt(operations)).code).to.equal(503);
    await isLive(operations);
    await until('the metrics show it, too', async () => {
      const text = (await exchange(operations, 'GET', '/metrics')).body.toString();
      return /^weighhouse_draining 1$/m.test(text);
    });
    upload.write('finish');
    await upload.untilAnswers(1);
    expect(upload.status).to.equal(202);
    expect(await ended).to.equal(0);
    await server.start();
  });
});
