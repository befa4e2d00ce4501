import { expect } from 'chai';
import { abandonedJob } from '../../src/gc/compaction.js';
import { removalsJob } from '../../src/gc/removals.js';
import { adoptStore } from '../../src/registry/installation.js';
import type { S3Options } from '../../src/storage/s3/client.js';
import type { SegmentKey } from '../../src/storage/segment-store.js';
import { Content } from '../faults/support/bytes.js';
import { Exchange, send } from '../faults/support/exchange.js';
import { until } from '../faults/support/processes.js';
import { bytesOf, compactorOf, NAME, outcome, pushChunks, read } from '../faults/races-scene.js';
import { digestOf } from '../http/content.js';
import { silent } from '../support/postgres.js';
import { Pauses, Site } from '../support/rooms.js';
import { startServer } from '../support/server.js';
import { empty, openStore, placeIn, settingsOf } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import { Gateway } from './support/gateway.js';
import { TIMEOUT_SECONDS } from './support/scene.js';

const MiB = 1024 * 1024;
const CHUNKS = [bytesOf(20 * MiB, 1), bytesOf(9 * MiB, 2), bytesOf(5 * MiB, 3)];
const WHOLE = Buffer.concat(CHUNKS);

describe('compaction in a bucket', () => {
  let ceph: Ceph;
  let place: S3Options;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
  });
  beforeEach(() => {
    place = placeIn(ceph);
  });
  afterEach(async () => await empty(place));

  const held = async (): Promise<SegmentKey[]> => {
    const { store } = openStore(place);
    const keys: SegmentKey[] = [];
    for await (const key of store.list()) keys.push(key);
    store.close();
    return keys.sort();
  };

  it('sends clients to a blob that was pushed by chunks, which then is the only object', async function () {
    this.timeout(180_000);
    const server = await startServer({
      environment: {
        ...settingsOf(place),
        REGISTRY_S3_TIMEOUT: '2',
        REGISTRY_REDIRECT: 'always',
        REGISTRY_S3_PUBLIC_ENDPOINT: `http://localhost:${ceph.port}`,
        REGISTRY_REDIRECT_LIFETIME: '1',
        REGISTRY_READ_GRACE: '1',
        REGISTRY_COMPACTION_RATE: String(1024 * MiB),
        REGISTRY_COMPACTION_INTERVAL: '1',
      },
    });
    try {
      const content = new Content('by chunks', 36 * MiB);
      const begun = await send(server.host, 'POST', '/v2/chunks/blobs/uploads/');
      const path = begun?.headers.location ?? '';
      for (let at = 0; at < content.size; at += 12 * MiB) {
        const exchange = new Exchange(server.host, 'PATCH', path, {
          'content-range': `${at}-${at + 12 * MiB - 1}`,
          'content-length': 12 * MiB,
        });
        await exchange.write(content.part(at, at + 12 * MiB));
        exchange.end();
        expect((await exchange.answer)?.status).to.equal(202);
      }
      expect((await send(server.host, 'PUT', `${path}?digest=${content.digest}`))?.status).to.equal(201);
      const blob = `/v2/chunks/blobs/${content.digest}`;
      await until('clients are sent there', async () => (await send(server.host, 'GET', blob))?.status === 307, 60_000);
      const location = (await send(server.host, 'GET', blob))?.headers.location ?? '';
      const bytes = Buffer.from(await (await fetch(location)).arrayBuffer());
      expect([bytes.length, digestOf(bytes)]).to.deep.equal([content.size, content.digest]);
      await until('the others are gone', async () => (await held()).length === 1, 60_000);
    } finally {
      await server.dispose();
    }
  });

  describe('by processes that die', () => {
    let site: Site;
    let gateway: Gateway;
    let closing: (() => void)[];

    beforeEach(async () => {
      [site, gateway] = await Promise.all([Site.make(), Gateway.before(ceph)]);
      closing = [];
      const { store } = openStore(place);
      await adoptStore(site.open().database, store);
      store.close();
    });
    afterEach(async () => {
      for (const close of closing) close();
      await gateway.close();
      await site.dispose();
    });

    function open() {
      const steps = new Pauses();
      const { store } = openStore(place, {
        endpoint: gateway.endpoint,
        timeoutSeconds: TIMEOUT_SECONDS,
        pause: steps.point,
      });
      closing.push(() => store.close());
      return { ...site.open({ store: () => store }), store, steps };
    }
    type Process = ReturnType<typeof open>;
    async function sweep({ database, store }: Process): Promise<void> {
      await database.query(`update replacements set touched_at = now() - interval '1 day'`);
      await abandonedJob(database, 1_000, 0).run();
      await removals({ database, store });
    }

    async function removals({ database, store }: Pick<Process, 'database' | 'store'>): Promise<void> {
      await database.query('update removals set not_before = now()');
      await removalsJob({
        database,
        store,
        log: silent,
        pause: () => undefined,
        everyMs: 1_000,
        delaySeconds: 0,
        sharePercent: 100,
      }).run();
    }

    for (const point of ['compaction:written', 's3:completing', 's3:completed', 'compaction:sealed']) {
      it(`and wake up at ${point} changes nothing, and leaves neither object nor upload`, async function () {
        this.timeout(120_000);
        const [zombie, rooms] = [open(), open()];
        const digest = await pushChunks(rooms, CHUNKS);
        const former = compactorOf(zombie);
        const pauses = point.startsWith('s3:') ? zombie.steps : zombie.pauses;
        const stop = pauses.hold(point);
        const run = outcome(former.run());
        await stop.reached;
        await sweep(rooms);
        const successor = compactorOf(rooms);
        while (await successor.run());
        expect(successor.outcomes).to.deep.equal(['done']);
        const made = (await rooms.registry.blobs.getOpenable(NAME, digest)).wholeObject;
        stop.release();
        // S3's answer to what was taken from under it may be any.
        expect(await run).to.be.oneOf(['done', 'Unavailable']);
        expect(former.outcomes).not.to.include('done');
        for (let time = 0; time < 3; time++) await removals(rooms);
        expect(await rooms.database.query('select from removals')).to.have.length(0);
        expect(await held()).to.deep.equal([made]);
        expect((await read(rooms, digest)).equals(WHOLE)).to.equal(true);
      });
    }

    it('and gateways that fail in the middle is tried again later', async function () {
      this.timeout(120_000);
      const rooms = open();
      const digest = await pushChunks(rooms, CHUNKS);
      gateway.fate = ({ operation, part }) =>
        operation === 'Part' && part === 3 ? { status: 503, code: 'SlowDown' } : 'pass';
      const job = compactorOf(rooms);
      expect(await outcome(job.run())).to.equal('Unavailable');
      gateway.fate = () => 'pass';
      expect(await outcome(job.run())).to.equal('done');
      while (await job.run());
      expect(job.outcomes).to.deep.equal(['failed', 'done']);
      for (let time = 0; time < 3; time++) await removals(rooms);
      expect(await held()).to.deep.equal([(await rooms.registry.blobs.getOpenable(NAME, digest)).wholeObject]);
    });
  });
});
