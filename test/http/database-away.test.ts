// A registry whose own PostgreSQL is held still, or killed, under its requests. The PostgreSQL of the run is not touched.
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { newKey, newKeyId } from '../../src/auth/key-text.js';
import { REMEMBER_MS } from '../../src/registry/remembered.js';
import { basic } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import {
  bytesOf,
  close,
  digestOf,
  expectBlob,
  expectError,
  openUpload,
  patch,
  pushBlob,
  pushImage,
} from './content.js';

/** Every process below `root`, with its command line. */
async function descendants(root: number): Promise<{ pid: number; command: string }[]> {
  const found: { pid: number; command: string }[] = [];
  const parents = new Map<number, number>();
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '');
    const parent = Number(/^\d+ \(.*\) \S (\d+)/s.exec(stat)?.[1]);
    if (parent) parents.set(Number(entry), parent);
  }
  for (const pid of parents.keys()) {
    for (let at = pid; at > 1; at = parents.get(at) ?? 0) {
      if (at !== root || pid === root) continue;
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      found.push({ pid, command: command.replaceAll('\0', ' ') });
      break;
    }
  }
  return found;
}

describe('a registry whose PostgreSQL is away', () => {
  let server: TestServer;
  const bytes = bytesOf('kept', 10_000);

  before(async function () {
    this.timeout(60_000);
    server = await startServer({
      embedded: true,
      environment: { REGISTRY_WORKERS: '1', REGISTRY_DATABASE_TIMEOUT: '1' },
    });
    await pushBlob(server, 'away/model', bytes);
    await pushImage(server, 'away/model', 'v1');
  });
  after(async function () {
    this.timeout(60_000);
    await server?.dispose();
  });

  /** Processes of this registry's PostgreSQL: the server itself first. */
  async function postgres(): Promise<number[]> {
    const all = await descendants(server.process.pid ?? 0);
    const ours = all.filter(({ command }) => /postgres/.test(command) && !/weighhouse\.js/.test(command));
    return ours.sort((a, b) => a.pid - b.pid).map(({ pid }) => pid);
  }

  function signal(pids: readonly number[], name: NodeJS.Signals): void {
    for (const pid of pids) {
      try {
        process.kill(pid, name);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
  }

  const requests: [string, () => Promise<Response>][] = [
    ['GET of a blob', () => server.request('GET', `/v2/away/model/blobs/${digestOf(bytes)}`)],
    ['GET of a manifest', () => server.request('GET', '/v2/away/model/manifests/v1')],
    ['the list of tags', () => server.request('GET', '/v2/away/model/tags/list')],
    ['opening an upload', () => server.request('POST', '/v2/away/model/blobs/uploads/')],
    // Of an id of its own each time: what is known of an id is believed for the length of a lease.
    [
      'a key that was not seen before',
      () => server.request('GET', '/v2/', { headers: { authorization: basic(newKey(newKeyId())) } }),
    ],
  ];

  async function untilWell(): Promise<void> {
    for (const deadline = performance.now() + 45_000; performance.now() < deadline; ) {
      const answer = await server.request('GET', '/v2/away/model/manifests/v1').catch(() => undefined);
      if (answer?.status === 200) return;
      expect(answer?.status ?? 503, 'nothing but 503 while it is away').to.equal(503);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`not well again in time:\n${await server.log()}`);
  }

  it('answers 503 with Retry-After while PostgreSQL is killed again and again, and is well after', async function () {
    this.timeout(120_000);
    const worker = await server.workers();
    const location = await openUpload(server, 'away/model');
    await patch(server, location, bytes.subarray(0, 5000), 0);
    let away = 0;
    for (let round = 0; round < 2; round++) {
      signal(await postgres(), 'SIGKILL');
      for (const [what, request] of requests) {
        const answer = await request();
        if (answer.status !== 503) {
          expect(answer.status, `${what} after it came back`).to.be.oneOf([200, 202, 401]);
          continue;
        }
        away += 1;
        expect(Number(answer.headers.get('retry-after')), what).to.be.greaterThan(0);
        await expectError(answer, 503, 'UNAVAILABLE');
      }
      await untilWell();
    }
    expect(away).to.be.greaterThan(0);
    // The upload goes on where it was, in the same worker process.
    await patch(server, location, bytes.subarray(5000), 5000);
    expect((await close(server, location, digestOf(bytes))).status).to.equal(201);
    await expectBlob(server, 'away/model', bytes);
    expect(await server.workers()).to.deep.equal(worker);
  });

  it('answers 503 while PostgreSQL stands still, and is well when it goes on', async function () {
    this.timeout(60_000);
    const worker = await server.workers();
    const stopped = await postgres();
    // What the test before has just read may be given out without asking.
    await sleep(2 * REMEMBER_MS);
    signal(stopped, 'SIGSTOP');
    const answers = requests.map(([, request]) => request());
    try {
      // Those that wait for a connection are told so, and those that have one and wait for their statement.
      for (const answer of await Promise.all(answers)) {
        expect(answer.status).to.equal(503);
        expect(answer.headers.get('retry-after')).to.match(/^\d+$/);
        await answer.arrayBuffer();
      }
    } finally {
      signal(stopped, 'SIGCONT');
    }
    await untilWell();
    await expectBlob(server, 'away/model', bytes);
    expect(await server.workers()).to.deep.equal(worker);
  });
});
