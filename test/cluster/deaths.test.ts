import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import pg from 'pg';
import { S3Bucket } from '../../src/storage/s3/bucket.js';
import { compare } from '../ceph/support/compare.js';
import { Gateway } from '../ceph/support/gateway.js';
import { Chance, Content } from '../faults/support/bytes.js';
import { Crowd } from '../faults/support/crowd.js';
import { send } from '../faults/support/exchange.js';
import { Gate } from '../faults/support/gate.js';
import { ask, Ledger } from '../faults/support/oracle.js';
import { until } from '../faults/support/processes.js';
import { Upload } from '../faults/support/upload.js';
import { Cluster, needCluster } from './support/cluster.js';
import { Doomed } from './support/doomed.js';

const MiB = 1024 * 1024;
const SEED = Number(process.env.FAULT_SEED ?? Math.floor(Math.random() * 2 ** 32));
/** Three parts, and some. */
const SIZE = 2 * 8 * MiB + 3 * MiB;
const SETTINGS = {
  REGISTRY_S3_TIMEOUT: '3',
  REGISTRY_ORPHAN_INTERVAL: '1',
  REGISTRY_ORPHAN_AGE: '5',
  // For the old bytes of blobs that are written anew, as the gateway died over them.
  REGISTRY_READ_GRACE: '5',
};
const SWEPT_MS = 200_000;

/** Clients take their time between requests: what they have pushed in all has to be pulled at the end. */
class PacedGate extends Gate {
  override async pass(): Promise<void> {
    await super.pass();
    await sleep(200);
  }
}

describe('nodes behind nginx, of which any may die', function () {
  this.timeout(600_000);
  let cluster: Cluster;
  let crowd: Crowd;
  const ledger = new Ledger();
  const gate = new PacedGate();
  const chance = new Chance(SEED);
  const seconds = () => sleep(chance.whole(300, 1_500));

  before(async function () {
    needCluster(this);
    console.log(`      FAULT_SEED=${SEED}`);
    cluster = await Cluster.start({ watched: true, environment: SETTINGS });
    crowd = new Crowd({ host: cluster.host, gate, acknowledged: () => undefined }, ledger, 'crowd');
    crowd.start(chance);
  });
  after(async () => await cluster?.dispose());

  /** An upload of which the client uses one node until that dies, and then any. */
  function uploadBy(host: string, name: string): { upload: Upload; leave: () => void } {
    const traffic = { host, gate, acknowledged: () => undefined };
    const upload = new Upload(traffic, 'deaths', new Content(`killed at ${name}`, SIZE));
    ledger.uploads.push(upload);
    return {
      upload,
      leave: () => {
        traffic.host = cluster.host;
      },
    };
  }

  const settings = () => cluster.nodes[0]?.server.environment ?? {};

  for (const place of [
    'upload:taken',
    'upload:begun',
    'upload:written',
    'upload:sealing',
    's3:completing',
    's3:completed',
    'upload:sealed',
    'upload:before-commit',
    'upload:in-commit',
    'upload:committed',
  ]) {
    it(`take over an upload of which the node is killed at ${place}`, async () => {
      const doomed = await Doomed.start(settings(), place);
      const { upload, leave } = uploadBy(doomed.host, place);
      await upload.begin();
      const request = upload.put();
      await doomed.there;
      await doomed.kill();
      expect(await request, 'an answer').to.equal(undefined);
      leave();
      await upload.finish();
    });
  }

  it('take over an upload of which the node is killed while its parts are on their way', async () => {
    const gateway = await Gateway.before(cluster.ceph);
    const doomed = await Doomed.start({ ...settings(), REGISTRY_S3_ENDPOINT: gateway.endpoint });
    try {
      const { upload, leave } = uploadBy(doomed.host, 'parts');
      await upload.begin();
      gateway.fate = ({ part }) => (part === 3 ? 'hang' : 'pass');
      const request = upload.put();
      await until('the third part is on its way', () => gateway.seen.some(({ part }) => part === 3));
      await doomed.kill();
      expect(await request, 'an answer').to.equal(undefined);
      leave();
      await upload.finish();
    } finally {
      await doomed.kill();
      await gateway.close();
    }
  });

  it('forget a session that its node was killed in opening', async () => {
    const doomed = await Doomed.start(settings());
    const { upload, leave } = uploadBy(doomed.host, 'POST');
    const client = new pg.Client({ connectionString: cluster.database.url });
    await client.connect();
    try {
      await client.query('begin; lock table uploads in share row exclusive mode');
      const request = send(doomed.host, 'POST', '/v2/deaths/blobs/uploads/');
      await until('it waits for the lock', async () => {
        const waiting = `select from pg_locks where not granted and relation = 'uploads'::regclass`;
        return (await ask(cluster.database.url, waiting)).length > 0;
      });
      await doomed.kill();
      expect(await request, 'an answer').to.equal(undefined);
    } finally {
      await client.end();
    }
    leave();
    await upload.finish();
  });

  it('serve on when one is killed with all its processes, and take it back', async () => {
    for (const { server } of cluster.nodes.slice(1)) {
      await seconds();
      await server.kill();
      await seconds();
      await server.start();
    }
  });

  it('wait for a gateway that is killed as parts pass, and as an object is completed', async () => {
    for (const wanted of ['Part', 'Complete', 'Complete'] as const) {
      let killed = false;
      const delayMs = chance.whole(0, 6);
      await new Promise<void>((resolve) => {
        for (const { gateway } of cluster.nodes) {
          if (!gateway) continue;
          gateway.fate = ({ operation }) => {
            if (operation === wanted && !killed) {
              killed = true;
              setTimeout(() => void cluster.ceph.signalGateway('SIGKILL').then(resolve), delayMs);
            }
            return 'pass';
          };
        }
      });
      await seconds();
      await cluster.ceph.up();
      await seconds();
    }
  });

  it('wait for an OSD that is stopped and started', async () => {
    await cluster.ceph.killOsd();
    await sleep(3_000);
    await cluster.ceph.startOsd();
    await seconds();
  });

  it('wait for PostgreSQL, stopped and killed', async () => {
    for (const how of ['stop', 'kill'] as const) {
      await cluster.database[how]();
      await seconds();
      await cluster.database.start();
      await seconds();
    }
  });

  it('have all that was acknowledged, and nothing else', async () => {
    await crowd.stop();
    await ledger.check(cluster.host, false);
    const { unnamed, lost } = await compare(cluster.database.url, cluster.place);
    expect([unnamed, lost]).to.deep.equal([[], []]);
    const committed = ledger.uploads.filter((upload) => upload.committed);
    expect(committed).to.have.length.above(12);
    const mebibytes = Math.round(committed.reduce((sum, { content }) => sum + content.size, 0) / MiB);
    console.log(`      ${committed.length} blobs (${mebibytes} MiB) of ${ledger.uploads.length} uploads`);
  });

  it('sweep the bucket until it holds what blobs are made of, right in each byte, and no other object or upload', async () => {
    const { url } = cluster.database;
    const bucket = new S3Bucket(cluster.place);
    // Of a node whose database was lost, or of a request to S3 that came too late.
    const stray = (name: string) => `ab/00000000-0000-4000-8000-000000000000.0.${name}`;
    await bucket.put(stray('0000000000000001'), Buffer.from('an orphan'));
    await bucket.begin(stray('0000000000000002'));
    bucket.close();
    expect((await compare(url, cluster.place)).unnamed, 'keys of a segment’s form').to.have.length(2);
    await ask(url, `update uploads set expires_at = now() where committed_digest is null`);
    // Of nodes that died, or lost PostgreSQL, while they wrote a blob anew.
    await ask(url, `update replacements set touched_at = now() - interval '1 day'`);
    let last: Awaited<ReturnType<typeof compare>> | undefined;
    const swept = async () => {
      last = await compare(url, cluster.place);
      const { removals, unnamed, uploads } = last;
      return removals.length === 0 && unnamed.length === 0 && uploads.length === 0;
    };
    await until('all that is no blob is gone', swept, SWEPT_MS).catch((error: unknown) => {
      throw new Error(`left: ${JSON.stringify({ ...last, objects: undefined, ofBlobs: undefined })}`, { cause: error });
    });
    const { objects, ofBlobs, lost } = last ?? (await compare(url, cluster.place));
    expect(lost).to.deep.equal([]);
    expect([...objects].sort()).to.deep.equal(ofBlobs.sort());
    const blobs = new Ledger();
    blobs.uploads.push(...ledger.uploads.filter((upload) => upload.committed));
    blobs.tags.push(...ledger.tags);
    await blobs.check(cluster.host, true);
  });
});
