import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { PostgresWay } from '../support/postgres-way.js';
import { startServer, type TestServer } from '../support/server.js';
import { Chance, Content } from './support/bytes.js';
import { Crowd } from './support/crowd.js';
import { Exchange, pull, send } from './support/exchange.js';
import { Gate } from './support/gate.js';
import { ask, checkStore, Ledger } from './support/oracle.js';
import { PostgresPair } from './support/postgres-pair.js';
import { until } from './support/processes.js';
import { Upload } from './support/upload.js';

const MiB = 1024 * 1024;
/** How long PostgreSQL is away, beyond what a statement may take. */
const AWAY_MS = Number(process.env.FAULT_AWAY_MS ?? 4_000);
const TIMEOUT_SECONDS = 2;

describe('a PostgreSQL that fails over', function () {
  this.timeout(300_000);
  let pair: PostgresPair;
  let way: PostgresWay;
  let server: TestServer;
  let processes: number[];
  const ledger = new Ledger();
  let large: Upload;
  let url: string;

  const traffic = () => ({ host: server.host, gate: new Gate(), acknowledged: () => undefined });
  const running = async () => [server.process.pid ?? 0, ...(await server.workers())];

  before(async () => {
    pair = await PostgresPair.make();
    url = pair.primary.url();
    way = await PostgresWay.to(url);
    const environment = {
      REGISTRY_DATABASE_URL: way.url,
      REGISTRY_DATABASE_TIMEOUT: String(TIMEOUT_SECONDS),
      REGISTRY_WORKERS: '1',
    };
    server = await startServer({ embedded: true, environment });
    large = new Upload(traffic(), 'large', new Content('large', 96 * MiB));
    ledger.uploads.push(large);
    await large.finish();
    processes = await running();
  });
  after(async () => {
    await server?.dispose();
    way?.close();
    await pair?.clear();
  });

  /** All is well again, of itself: nothing was restarted, and nothing that was acknowledged is lost. */
  async function healed(): Promise<void> {
    const upload = new Upload(traffic(), 'healed', new Content(`${ledger.uploads.length}`, MiB));
    ledger.uploads.push(upload);
    await upload.finish();
    expect(await running(), 'nothing was restarted').to.deep.equal(processes);
    await ledger.check(server.host, false);
    await checkStore(url, join(server.folder, 'data/blobs'));
  }

  /** Clients push while `disturb` is at work: their answers are right or 503, and all come to their end. */
  async function under(name: string, disturb: () => Promise<void>): Promise<void> {
    const crowd = new Crowd(traffic(), ledger, name);
    crowd.start(new Chance(name.length));
    const before = ledger.uploads.filter(({ committed }) => committed).length;
    try {
      await until(
        'clients are at work',
        () => ledger.uploads.filter(({ committed }) => committed).length > before,
        60_000,
      );
      await disturb();
    } finally {
      await crowd.stop();
    }
    await healed();
  }

  it('costs 503s while connections are cut again and again', async () => {
    await under('cut', async () => {
      for (let round = 0; round < 5; round++) {
        await ask(
          url,
          `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'weighhouse%' and pid <> pg_backend_pid()`,
        );
        await sleep(200);
      }
    });
  });

  it('does not end a download or an upload under way, whether it hangs or refuses, and both are whole at last', async () => {
    let bytes = 0;
    let resume = () => {};
    const back = new Promise<void>((resolve) => {
      resume = resolve;
    });
    // The client reads some, and the rest when all is over.
    const download = pull(server.host, large.blobPath, async (size) => {
      bytes = size;
      await back;
    });
    const upload = new Upload(traffic(), 'under-way', new Content('under way', 24 * MiB));
    ledger.uploads.push(upload);
    await upload.begin();
    const patch = new Exchange(server.host, 'PATCH', upload.path, { 'transfer-encoding': 'chunked' });
    await patch.write(upload.content.part(0, 8 * MiB));
    await until('the download is under way', () => bytes > 0);

    way.hush();
    const asked = Promise.all([
      send(server.host, 'GET', '/v2/large/tags/list'),
      send(server.host, 'POST', '/v2/large/blobs/uploads/'),
    ]);
    await patch.write(upload.content.part(8 * MiB, 16 * MiB));
    for (const answer of await asked) {
      expect(answer?.status).to.equal(503);
      expect(Number(answer?.headers['retry-after'])).to.be.above(0);
    }
    await sleep(AWAY_MS);
    way.refuse();
    expect((await send(server.host, 'GET', '/v2/large/tags/list'))?.status).to.equal(503);
    await sleep(AWAY_MS / 2);
    way.speak();
    way.admit();

    await patch.write(upload.content.part(16 * MiB, 20 * MiB));
    upload.reached = 20 * MiB;
    patch.end();
    const answer = await patch.answer;
    // It may have ended in the middle of finding connections anew.
    expect(answer?.status).to.be.oneOf([202, 503]);
    if (answer?.status === 202) upload.told = 20 * MiB;
    else upload.unsure = true;
    await upload.finish();
    resume();
    expect(await download).to.include({ status: 200, digest: large.content.digest, whole: true });
    await healed();
  });

  it('serves what there is while it takes no writes, and refuses the rest by 503', async () => {
    const setReadOnly = async (value: 'on' | 'off') => {
      await ask(pair.primary.url('postgres'), `alter database weighhouse set default_transaction_read_only = ${value}`);
      way.cut();
    };
    await setReadOnly('on');
    // A statement whose connection was cut counts as one more 503.
    await until('it reads', async () => (await send(server.host, 'HEAD', large.blobPath))?.status === 200);
    for (const [method, path] of [
      ['POST', '/v2/large/blobs/uploads/'],
      ['DELETE', large.blobPath],
    ] as const) {
      const answer = await send(server.host, method, path);
      expect(answer?.status, method).to.equal(503);
      expect(Number(answer?.headers['retry-after'])).to.be.above(0);
      expect(JSON.parse(String(answer?.body))).to.have.nested.property('errors[0].code', 'UNAVAILABLE');
    }
    expect(await pull(server.host, large.blobPath)).to.include({ status: 200, digest: large.content.digest });
    await setReadOnly('off');
    await healed();
  });

  it('has all that was acknowledged when the primary was killed and its synchronous standby took its place', async () => {
    await under('failover', async () => {
      url = await pair.failOver();
      // Clients find nobody meanwhile: the way leads to the former one until now.
      way.admit(url);
    });
    await ledger.check(server.host, true);
  });
});
