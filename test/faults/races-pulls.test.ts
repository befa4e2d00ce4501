import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { Queries } from '../../src/database/connect.js';
import { type Digest, digestOf } from '../../src/oci/digest.js';
import { Pulls, type PullsOptions } from '../../src/registry/pulls.js';
import { Listening } from '../support/plans.js';
import { silent } from '../support/postgres.js';
import { PostgresWay } from '../support/postgres-way.js';
import { ACTOR, type Rooms, Site } from '../support/rooms.js';
import { collectorOf, GRACE, HeldChanges, imageOf, pass, put, UNTAGGED } from './collector-scene.js';
import { until } from './support/processes.js';
import { bytesOf, NAME, push, sha256, stall, stillWaits } from './races-scene.js';

const BYTES = bytesOf(1_000);
const NEVER_MS = 3_600_000;

describe('races of pulls', () => {
  let site: Site;
  let one: Rooms;
  let two: Rooms;
  let changes: HeldChanges;
  let opened: Pulls[];
  let atEnd: (() => unknown)[];
  let digest: Digest;

  beforeEach(async () => {
    changes = new HeldChanges();
    opened = [];
    atEnd = [];
    site = await Site.make();
    one = site.open({ observers: [changes.observer] });
    two = site.open();
    await push(one, BYTES);
    ({ digest } = await put(one, image('first')));
  });
  afterEach(async () => {
    for (const work of atEnd) await work();
    await Promise.all(opened.map((pulls) => pulls.stop()));
    await site.dispose();
  });

  const image = (note: string) => imageOf(sha256(BYTES), BYTES.length, { note });
  function pullsOf(queries: Queries, options: Partial<PullsOptions> = {}): Pulls {
    const pulls = new Pulls({ queries, log: silent, capacity: 1_000, everyMs: NEVER_MS, ...options });
    opened.push(pulls);
    return pulls;
  }
  /** How often each manifest was pulled, by its digest, and how many seconds ago the last time. */
  async function counted(): Promise<{ digest: Digest; pulls: number; age: number }[]> {
    return await two.database.query(
      `select digest, pulls, extract(epoch from now() - pulled_at)::float8 as age from manifest_pulls order by digest`,
    );
  }
  const countOf = async (of = digest) => (await counted()).find((row) => row.digest === of)?.pulls;

  /** Holds what a statement locks until it is let go. */
  async function holding(text: string, values: readonly unknown[] = []) {
    const { wait, reached, go } = stall();
    const held = two.database.transaction(async (transaction) => {
      await transaction.query(text, values);
      await wait();
    });
    await Promise.race([reached, held]);
    const release = async () => {
      go();
      await held;
    };
    atEnd.push(release);
    return release;
  }
  const holdManifest = () => holding('select from manifests where digest = $1 for update', [digest]);
  /** A flush that writes this manifest is held while it holds the manifest. */
  const holdPulls = () => holding('select from manifest_pulls where digest = $1 for update', [digest]);

  it('of two processes add up, and the last one is the last time', async () => {
    const [first, second] = [pullsOf(one.database), pullsOf(two.database)];
    first.note(NAME, digest, true);
    await sleep(300);
    for (let count = 0; count < 3; count++) second.note(NAME, digest, true);
    await second.flush();
    await first.flush();
    const [row] = await counted();
    expect(row?.pulls).to.equal(4);
    expect(row?.age).to.be.within(0, 0.29);
    first.note(NAME, digest, false);
    await sleep(300);
    await first.flush();
    expect((await counted())[0]?.age, 'when it was noted, not when it was written').to.be.within(0.3, 10);
    expect(await countOf()).to.equal(4);
  });

  it('make no statement until they are written, and then one for all', async () => {
    const listening = new Listening(one.database);
    const pulls = pullsOf(listening);
    for (let count = 0; count < 1_000; count++) pulls.note(NAME, digest, true);
    await sleep(50);
    expect(listening.statements).to.have.length(0);
    await pulls.flush();
    await pulls.flush();
    expect(listening.statements).to.have.length(1);
    expect(await countOf()).to.equal(1_000);
  });

  it('are written by one statement after the other, never two at once', async () => {
    const listening = new Listening(one.database);
    const pulls = pullsOf(listening, { everyMs: 20 });
    pulls.note(NAME, digest, true);
    await pulls.flush();
    const release = await holdPulls();
    pulls.note(NAME, digest, true);
    const flushed = pulls.flush();
    await sleep(100);
    pulls.note(NAME, digest, true);
    expect(await stillWaits(pulls.flush())).to.equal(true);
    expect(listening.statements).to.have.length(2);
    await release();
    await flushed;
    await pulls.flush();
    expect(await countOf()).to.equal(3);
  });

  it('of a manifest that is being removed are passed over, and forgotten when it is gone', async () => {
    const other = await put(one, image('other'));
    const listening = new Listening(one.database);
    const pulls = pullsOf(listening);
    const removal = changes.hold('manifest-removed');
    const removed = one.registry.manifests.remove(NAME, digest, ACTOR);
    await removal.reached;
    pulls.note(NAME, digest, true);
    pulls.note(NAME, other.digest, true);
    await pulls.flush();
    expect(await counted()).to.have.length(1);
    removal.release();
    await removed;
    await pulls.flush();
    await pulls.flush();
    expect(listening.statements, 'and then there is nothing to write any more').to.have.length(2);
    expect(await countOf(other.digest)).to.equal(1);
    expect(await counted()).to.have.length(1);
  });

  it('of a manifest whose removal is undone are written afterwards', async () => {
    const pulls = pullsOf(one.database);
    const removal = changes.hold('manifest-removed');
    const removed = one.registry.manifests.remove(NAME, digest, ACTOR).catch((error: Error) => error.message);
    await removal.reached;
    pulls.note(NAME, digest, true);
    await pulls.flush();
    expect(await counted()).to.have.length(0);
    removal.fail(new Error('undone'));
    expect(await removed).to.equal('undone');
    pulls.note(NAME, digest, true);
    await pulls.flush();
    expect(await countOf()).to.equal(2);
  });

  it('of a manifest that somebody holds wait, the others do not', async () => {
    const other = await put(one, image('other'));
    const pulls = pullsOf(one.database);
    const release = await holdManifest();
    for (const noted of [digest, other.digest]) pulls.note(NAME, noted, true);
    await pulls.flush();
    expect([await countOf(), await countOf(other.digest)]).to.deep.equal([undefined, 1]);
    await release();
    await pulls.flush();
    expect([await countOf(), await countOf(other.digest)]).to.deep.equal([1, 1]);
  });

  it('under way have a removal wait, which then takes them along', async () => {
    const pulls = pullsOf(one.database);
    pulls.note(NAME, digest, true);
    await pulls.flush();
    const release = await holdPulls();
    pulls.note(NAME, digest, true);
    const flushed = pulls.flush();
    expect(await stillWaits(flushed)).to.equal(true);
    const removed = one.registry.manifests.remove(NAME, digest, ACTOR);
    expect(await stillWaits(removed)).to.equal(true);
    await release();
    await Promise.all([flushed, removed]);
    expect(await counted()).to.have.length(0);
    expect(pulls.statistics().failures).to.equal(0);
  });

  it('under way are passed over by the collector, which comes back', async () => {
    const pulls = pullsOf(one.database);
    pulls.note(NAME, digest, true);
    await pulls.flush();
    const collector = collectorOf(one);
    await collector.round();
    await pass(two, UNTAGGED + 1);
    const release = await holdPulls();
    pulls.note(NAME, digest, true);
    const flushed = pulls.flush();
    expect(await stillWaits(flushed)).to.equal(true);
    await collector.decide();
    expect(collector.counts.condemned).to.equal(0);
    await release();
    await flushed;
    for (const seconds of [60, GRACE + 1]) {
      await pass(two, seconds);
      await collector.decide();
    }
    expect(collector.counts).to.include({ condemned: 1, manifests: 1 });
    expect(await counted()).to.have.length(0);
  });

  it('of many manifests in many orders are written by processes beside each other without a deadlock', async () => {
    const many: Digest[] = [];
    for (let count = 0; count < 300; count++) many.push(digestOf('sha256', Buffer.from(String(count))));
    await two.database.query(
      `insert into manifests (repository, digest, media_type, size, payload)
       select m.repository, d, m.media_type, m.size, m.payload from manifests m, unnest($1::text[]) as d where m.digest = $2`,
      [many, digest],
    );
    const processes = [one, two, site.open(), site.open()].map(({ database }) => pullsOf(database));
    const rounds = 15;
    for (let round = 0; round < rounds; round++) {
      for (const [index, pulls] of processes.entries()) {
        const order = index % 2 === 0 ? many : many.toReversed();
        for (const noted of order) pulls.note(NAME, noted, true);
      }
      await Promise.all(processes.map((pulls) => pulls.flush()));
    }
    expect(processes.map((pulls) => pulls.statistics().failures)).to.deep.equal([0, 0, 0, 0]);
    expect(new Set((await counted()).map(({ pulls }) => pulls))).to.deep.equal(new Set([rounds * processes.length]));
  });

  it('are kept while PostgreSQL is away', async () => {
    const way = await PostgresWay.to(site.testDatabase.url);
    atEnd.push(() => way.close());
    const pulls = pullsOf(site.open({ url: way.url }).database);
    pulls.note(NAME, digest, true);
    await pulls.flush();
    way.refuse();
    for (let count = 0; count < 2; count++) {
      pulls.note(NAME, digest, true);
      await pulls.flush();
    }
    expect(pulls.statistics()).to.deep.equal({ pulls: 3, dropped: 0, failures: 2 });
    way.admit();
    await until('they are written', async () => {
      await pulls.flush();
      return (await countOf()) === 3;
    });
  });

  it('of more manifests than are kept in memory are dropped, also while others are written', async () => {
    const pulls = pullsOf(one.database, { capacity: 1 });
    const other = await put(one, image('other'));
    pulls.note(NAME, digest, true);
    pulls.note(NAME, other.digest, true);
    pulls.note(NAME, digest, true);
    expect(pulls.statistics()).to.include({ pulls: 2, dropped: 1 });
    const release = await holding('lock table manifest_pulls');
    const flushed = pulls.flush();
    await sleep(50);
    pulls.note(NAME, other.digest, true);
    expect(pulls.statistics()).to.include({ pulls: 2, dropped: 2 });
    await release();
    await flushed;
    pulls.note(NAME, other.digest, true);
    await pulls.flush();
    expect([await countOf(), await countOf(other.digest)]).to.deep.equal([2, 1]);
  });
});
