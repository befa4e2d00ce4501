import { expect } from 'chai';
import { onDatabase } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import { Content } from './support/bytes.js';
import { checkDurability } from './support/durability.js';
import { pull } from './support/exchange.js';
import { Gate } from './support/gate.js';
import { until } from './support/processes.js';
import { notRun } from '../support/not-run.js';
import { type Call, parseTrace, targetOf, Trace } from './support/trace.js';
import { sample, sampleOf } from './support/trace-sample.js';
import { Upload } from './support/upload.js';

const KiB = 1024;
const MiB = 1024 * KiB;

describe('the checker of traces', () => {
  const order = Object.keys(sample);
  const faultsOf = (parts: readonly string[]) => checkDurability(parseTrace(sampleOf(parts)));

  it('finds no fault in a trace that keeps the order', () => {
    expect(faultsOf(order)).to.deep.equal([]);
  });

  for (const part of ['firstData', 'firstFolder', 'secondData', 'secondFolder', 'committed']) {
    it(`finds a fault in a trace that lacks ${part}`, () => {
      expect(faultsOf(order.filter((name) => name !== part))).not.to.deep.equal([]);
    });
  }

  for (const [late, after] of [
    ['firstData', 'row'],
    ['firstFolder', 'row'],
    ['secondData', 'commit'],
    ['secondFolder', 'commit'],
    ['committed', 'created'],
  ] as const) {
    it(`finds a fault in a trace in which ${late} comes only after ${after}`, () => {
      const others = order.filter((name) => name !== late);
      others.splice(others.indexOf(after) + 1, 0, late);
      expect(faultsOf(others)).not.to.deep.equal([]);
    });
  }

  it('does not count a sync that began before the write had ended, nor one that failed', () => {
    const early = order.filter((name) => name !== 'firstData');
    early.splice(early.indexOf('write'), 0, 'firstData');
    expect(faultsOf(early)).not.to.deep.equal([]);
    const failed = sampleOf(order).replace(
      'fdatasync resumed>) = 0',
      'fdatasync resumed>) = -1 EIO (Input/output error)',
    );
    expect(checkDurability(parseTrace(failed))).not.to.deep.equal([]);
  });
});

describe('system calls', function () {
  this.timeout(180_000);
  let server: TestServer;
  /** What the worker has prepared so far: each trace but the first begins in the middle. */
  const statements = new Map<string, string>();

  before(async function () {
    // One thread does the file system's work: then the N-th call is the N-th.
    server = await startServer({ environment: { REGISTRY_WORKERS: '1', UV_THREADPOOL_SIZE: '1' } });
    const probe = await Trace.attach(process.pid).catch((error: Error) => error);
    if (probe instanceof Error) notRun(this, 'strace', probe.message);
    await probe.detach();
    await forgetStatements();
  });
  after(() => server?.dispose());

  /** Ends the connections on which the first requests prepared their statements: the next ones begin inside of a trace. */
  async function forgetStatements(): Promise<void> {
    await onDatabase(server, async (database) => {
      const ended = await database.query<{ pid: number }>(
        `select pid, pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name = 'weighhouse' and pid <> pg_backend_pid()`,
      );
      const pids = ended.map(({ pid }) => pid);
      // Jobs may have opened others by then.
      const left = () => database.query('select pid from pg_stat_activity where pid = any($1::int[])', [pids]);
      await until('they are gone', async () => (await left()).length === 0);
    });
  }

  const uploadOf = (name: string, size: number) =>
    new Upload(
      { host: server.host, gate: new Gate(), acknowledged: () => undefined },
      'traced',
      new Content(name, size),
    );

  async function attach(inject: readonly string[] = []): Promise<Trace> {
    const [pid = 0] = await server.workers();
    return await Trace.attach(pid, inject);
  }

  const syncs = (calls: readonly Call[], name: string) => calls.filter((call) => call.name === name);

  it('come in the order data, folder, row, answer, and each sync is missed when it is left out', async () => {
    const trace = await attach();
    const uploads = [uploadOf('whole', 33 * MiB), uploadOf('chunks', 700_000), uploadOf('slow', 6 * MiB)];
    const [whole, chunks, slow] = uploads as [Upload, Upload, Upload];
    for (const upload of uploads) await upload.begin();
    expect(await whole.put()).to.equal('done');
    for (const end of [1, 300_000, 400_000]) expect(await chunks.patch(end, { ranged: true })).to.equal('done');
    expect(await chunks.put({ ranged: true })).to.equal('done');
    // Long enough for its row to be told in the middle.
    expect(await slow.patch(slow.content.size, { pauseMs: 65 })).to.equal('done');
    expect(await slow.put({ empty: true })).to.equal('done');
    const calls = await trace.detach();
    expect(checkDurability(calls, statements)).to.deep.equal([]);

    const folders = syncs(calls, 'fsync');
    expect(folders.length).to.be.at.least(6);
    const without = (gone: readonly Call[]) =>
      checkDurability(
        calls.filter((call) => !gone.includes(call)),
        statements,
      );
    for (const folder of folders)
      expect(without(folders.filter((call) => targetOf(call) === targetOf(folder)))).not.to.deep.equal([]);
    const data = syncs(calls, 'fdatasync');
    for (const file of new Set(data.map(targetOf))) {
      const writes = calls.filter((call) => /^pwrite/.test(call.name) && targetOf(call) === file);
      const written = Math.max(...writes.map((call) => call.end));
      // On a slow machine there may be two: of what is durable, and at the seal.
      const last = data.filter((call) => targetOf(call) === file && call.begin > written);
      expect(without(last), file).not.to.deep.equal([]);
    }
  });

  for (const { fault, when } of [
    { fault: 'fdatasync', when: 1 },
    { fault: 'fdatasync', when: 2 },
    { fault: 'fsync', when: 1 },
    { fault: 'pwrite64', when: 1 },
    { fault: 'pwrite64', when: 2 },
  ]) {
    it(`never end in an acknowledgement when the ${fault} number ${when} fails with EIO`, async () => {
      const trace = await attach([`${fault}:error=EIO:when=${when}`]);
      const upload = uploadOf(`${fault} ${when}`, 40 * MiB);
      await upload.begin();
      const answer = await upload.put();
      if (answer === 'done' || answer === undefined) throw new Error(`a 503 was expected, not ${answer ?? 'a break'}`);
      expect(answer.status).to.equal(503);
      expect(answer.headers['retry-after']).to.be.a('string');
      const offset = await upload.status();
      // What failed stays failed; what comes next is a new file.
      expect(await upload.put({ ranged: true })).to.equal('done');
      const calls = await trace.detach();
      expect(calls.filter((call) => call.name === fault && call.result === -1)).to.have.length(1);
      expect(checkDurability(calls, statements)).to.deep.equal([]);
      const pulled = await pull(server.host, upload.blobPath);
      expect(pulled).to.include({ status: 200, size: upload.content.size, digest: upload.content.digest });
      console.log(
        `      EIO of ${fault} ${when}: 503, told ${offset} of ${upload.content.size} bytes, finished from there`,
      );
    });
  }

  it('never end in a 202 when a sync of a chunk fails', async () => {
    const upload = uploadOf('chunk', 3 * MiB);
    await upload.begin();
    expect(await upload.patch(1 * MiB, { ranged: true })).to.equal('done');
    const trace = await attach(['fdatasync:error=EIO:when=1']);
    const answer = await upload.patch(2 * MiB, { ranged: true });
    expect(answer).to.have.property('status', 503);
    expect(await upload.status()).to.equal(1 * MiB);
    await trace.detach();
    expect(await upload.put({ ranged: true })).to.equal('done');
    expect((await pull(server.host, upload.blobPath))?.digest).to.equal(upload.content.digest);
  });
});
