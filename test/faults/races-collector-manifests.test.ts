import { expect } from 'chai';
import { checkThere, putTag } from '../../src/metadata/put-tag.js';
import { parseTag } from '../../src/oci/name.js';
import type { ManifestPush } from '../../src/registry/manifest-rows.js';
import { listReferrers } from '../../src/registry/referrers.js';
import { ACTOR, type Rooms, Site } from '../support/rooms.js';
import {
  collectorOf,
  GRACE,
  HeldChanges,
  imageOf,
  indexOf,
  OBSERVERS,
  pass,
  put,
  UNTAGGED,
} from './collector-scene.js';
import { bytesOf, NAME, outcome, push, sha256, stillWaits } from './races-scene.js';

const BYTES = bytesOf(1_000);
const DIGEST = sha256(BYTES);
const image = (options: Parameters<typeof imageOf>[2] = {}) => imageOf(DIGEST, BYTES.length, options);

describe('races of the collector over manifests', () => {
  let site: Site;
  let one: Rooms;
  let two: Rooms;
  let changes: HeldChanges;

  beforeEach(async () => {
    changes = new HeldChanges();
    site = await Site.make();
    one = site.open({ observers: [...OBSERVERS, changes.observer] });
    two = site.open({ observers: OBSERVERS });
    await push(two, BYTES);
  });
  afterEach(async () => await site.dispose());

  const head = ({ digest }: Pick<ManifestPush, 'digest'>) => outcome(two.registry.manifests.get(NAME, { digest }));
  const referrersOf = async ({ digest }: Pick<ManifestPush, 'digest'>) => {
    const query = { repository: NAME, subject: digest, artifactType: undefined, last: '', maxBytes: 1_000_000 };
    return (await listReferrers(two.database, query)).referrers.map((referrer) => referrer.digest);
  };

  it('one without a name is condemned when the policy says, goes a grace period later, and its blob after it', async () => {
    const old = await put(two, image({ tags: ['v1'], note: 'old' }));
    await put(two, image({ tags: ['v1'], note: 'new' }));
    const collector = collectorOf(two);
    await pass(two, UNTAGGED - 60);
    await collector.round();
    expect(await head(old), 'before its time').to.equal('done');
    await pass(two, 120);
    await collector.round();
    expect(await head(old), 'condemned').to.equal('ManifestUnknown');
    await pass(two, GRACE - 60);
    await collector.round();
    expect(collector.counts.manifests).to.equal(0);
    await pass(two, 120);
    await collector.round();
    expect(collector.counts).to.include({ condemned: 1, manifests: 1, links: 0 });
    expect(await two.database.query('select from manifests')).to.have.length(1);
    expect(await two.database.query(`select action from audit_logs where actor = 'collector'`)).to.deep.equal([
      { action: 'manifest.delete' },
    ]);
    await two.registry.tags.remove(NAME, parseTag('v1'), ACTOR);
    for (const seconds of [UNTAGGED + 1, GRACE + 1, GRACE + 1, GRACE + 1]) {
      await pass(two, seconds);
      await collector.round();
    }
    expect(collector.counts).to.include({ manifests: 2, links: 1, blobs: 1, bytes: 1_000 });
    for (const table of ['manifests', 'manifest_references', 'repository_blobs', 'blobs', 'reviews'])
      expect(await two.database.query(`select from ${table}`), table).to.have.length(0);
  });

  it('one that was pushed without a name, and one that is pushed again, have all the time that the policy says', async () => {
    const lonely = await put(two, image({ note: 'lonely' }));
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, UNTAGGED - 60);
    await put(two, lonely);
    await pass(two, UNTAGGED - 60);
    await collector.round();
    expect(await head(lonely)).to.equal('done');
    await pass(two, 120);
    await collector.round();
    expect(await head(lonely)).to.equal('ManifestUnknown');
    await put(two, lonely);
    expect(await head(lonely), 'revived').to.equal('done');
    await pass(two, GRACE + 1);
    await collector.round();
    expect(await head(lonely)).to.equal('done');
  });

  it('a policy that keeps them keeps them, and brings back what is condemned', async () => {
    const lonely = await put(two, image({ note: 'lonely' }));
    const keeper = collectorOf(two, { untagged: () => Promise.resolve(() => undefined) });
    await keeper.round();
    await pass(two, 10 * UNTAGGED);
    await keeper.round();
    expect(await head(lonely)).to.equal('done');
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, UNTAGGED + 1);
    await collector.round();
    expect(await head(lonely)).to.equal('ManifestUnknown');
    await pass(two, GRACE + 1);
    await keeper.round();
    expect(await head(lonely)).to.equal('done');
  });

  it('what an index lists stays as long as the index, and an index that comes revives what it lists', async () => {
    const child = await put(two, image({ note: 'child' }));
    const index = await put(two, indexOf([child], { tags: ['all'] }));
    const collector = collectorOf(two);
    await pass(two, 2 * UNTAGGED);
    await collector.round();
    expect([await head(child), await head(index)]).to.deep.equal(['done', 'done']);
    await two.registry.manifests.remove(NAME, index.digest, ACTOR);
    await pass(two, UNTAGGED + 1);
    await collector.round();
    expect(await head(child)).to.equal('ManifestUnknown');
    await put(two, index);
    expect(await head(child)).to.equal('done');
  });

  it('an index that comes while what it lists is being condemned waits, and revives it', async () => {
    const child = await put(two, image({ note: 'child' }));
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, UNTAGGED + 1);
    const here = two.pauses.hold('collector:manifests-decided');
    const round = collector.round();
    await here.reached;
    const index = put(one, indexOf([child], { tags: ['all'] }));
    expect(await stillWaits(index)).to.equal(true);
    here.release();
    await round;
    await index;
    expect(collector.counts.condemned).to.equal(1);
    expect(await head(child)).to.equal('done');
  });

  it('an index under way keeps what it lists from going', async () => {
    const child = await put(two, image({ note: 'child' }));
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, UNTAGGED + 1);
    await collector.round();
    await pass(two, GRACE + 1);
    const here = changes.hold('manifest-pushed');
    const index = put(one, indexOf([child], { tags: ['all'] }));
    await here.reached;
    await collector.round();
    expect(collector.counts.manifests).to.equal(0);
    here.release();
    await index;
    await pass(two, 10);
    await collector.round();
    expect(await head(child)).to.equal('done');
  });

  it('an index that is pushed while what it lists goes lists what is gone, as one that comes before it', async () => {
    const child = await put(two, image({ note: 'child' }));
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, UNTAGGED + 1);
    await collector.round();
    await pass(two, GRACE + 1);
    const here = two.pauses.hold('collector:manifest-decided');
    const round = collector.round();
    await here.reached;
    const index = put(one, indexOf([child], { tags: ['all'] }));
    expect(await stillWaits(index)).to.equal(true);
    here.release();
    await round;
    await index;
    expect(await head(child)).to.equal('ManifestUnknown');
    await put(one, child);
    expect(await head(child)).to.equal('done');
  });

  it('one that was seen a moment before it is condemned is not seen when that is done', async () => {
    const lonely = await put(two, image({ note: 'lonely' }));
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, UNTAGGED + 1);
    const here = two.pauses.hold('collector:manifests-decided');
    const round = collector.round();
    await here.reached;
    expect(await head(lonely), 'remembered from now on').to.equal('done');
    here.release();
    await round;
    expect(await head(lonely)).to.equal('ManifestUnknown');
  });

  it('one that gets a tag between the decision and its removal is kept', async () => {
    const lonely = await put(two, image({ note: 'lonely' }));
    const collector = collectorOf(two);
    await collector.round();
    for (const seconds of [UNTAGGED + 1, GRACE + 1]) {
      await collector.round();
      await pass(two, seconds);
    }
    const here = two.pauses.hold('collector:before-removal');
    const round = collector.round();
    await here.reached;
    await put(one, image({ tags: ['late'], note: 'lonely' }));
    here.release();
    await round;
    expect(collector.counts.manifests).to.equal(0);
    expect(await head(lonely)).to.equal('done');
  });

  it('a tag that is set by the API waits for the review, and revives', async () => {
    const lonely = await put(two, image({ note: 'lonely' }));
    const [{ id = 0 } = {}] = await two.database.query<{ id: number }>('select id from repositories');
    const place = { repository_id: id, name: NAME };
    const caller = {
      actor: ACTOR,
      rights: { seesAll: true, maySee: () => true, require: () => undefined, requireAdmin: () => undefined },
      expect: () => undefined,
      record: () => Promise.resolve(),
    };
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, UNTAGGED + 1);
    const here = two.pauses.hold('collector:manifests-decided');
    const round = collector.round();
    await here.reached;
    const tagged = one.database.transaction(async (transaction) => {
      await checkThere(transaction, place, lonely.digest);
      await putTag(transaction, caller, place, parseTag('stable'), lonely.digest);
    });
    expect(await stillWaits(tagged)).to.equal(true);
    here.release();
    await round;
    await tagged;
    expect(await outcome(two.registry.manifests.get(NAME, { tag: parseTag('stable') }))).to.equal('done');
  });

  it('what refers to a subject goes with it, also what refers to that, and not if the subject is back', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signature = await put(two, image({ subject, note: 'signature' }));
    const stamp = await put(two, image({ subject: signature, note: 'stamp' }));
    const collector = collectorOf(two);
    await pass(two, 2 * UNTAGGED);
    await collector.round();
    expect(await referrersOf(subject)).to.deep.equal([signature.digest]);
    await two.registry.manifests.remove(NAME, subject.digest, ACTOR);
    await put(two, subject);
    await collector.round();
    expect(await head(signature), 'the subject is back before the review').to.equal('done');
    await two.registry.manifests.remove(NAME, subject.digest, ACTOR);
    await collector.round();
    expect(await head(signature), 'condemned at once').to.equal('ManifestUnknown');
    expect(await referrersOf(subject), 'nor listed').to.deep.equal([]);
    await put(two, subject);
    expect(await referrersOf(subject), 'the subject is back').to.deep.equal([signature.digest]);
    await two.registry.manifests.remove(NAME, subject.digest, ACTOR);
    for (let round = 0; round < 3; round++) {
      await collector.round();
      await pass(two, GRACE + 1);
    }
    await collector.round();
    expect([await head(signature), await head(stamp)]).to.deep.equal(['ManifestUnknown', 'ManifestUnknown']);
    expect(await two.database.query('select from manifests')).to.have.length(0);
  });

  it('a referrer that comes before its subject has the time of all that nothing names', async () => {
    const subject = image({ tags: ['v1'] });
    const early = await put(two, image({ subject, note: 'signature' }));
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, UNTAGGED - 60);
    await collector.round();
    expect(await head(early)).to.equal('done');
    await put(two, subject);
    await pass(two, UNTAGGED);
    await collector.round();
    expect(await head(early)).to.equal('done');
  });

  describe('of a model', () => {
    let model: string;
    let release: string;
    let pinned: ManifestPush;

    beforeEach(async () => {
      pinned = await put(two, image({ note: 'pinned' }));
      const tagged = await put(two, image({ tags: ['v1'], note: 'tagged' }));
      const one = async (text: string, values: unknown[]) => {
        const [row] = await two.database.query<{ id: string }>(text, values);
        return row?.id ?? '';
      };
      model = await one(
        `insert into models (name, storage_path, repository_id, created_by)
         select 'm', name, id, 'tester' from repositories where name = $1 returning id`,
        [NAME],
      );
      release = await one(
        `insert into releases (model_id, version, tag, digest, status, version_order, created_by)
         values ($1, 'v1', 'v1', $2, 'published', '1', 'tester') returning id`,
        [model, tagged.digest],
      );
    });

    const deploy = async (status: string, environment = 'prod', at = 'now()') => {
      const [row] = await two.database.query<{ id: string }>(
        `insert into deployments (release_id, model_id, digest, environment, status, deployed_by, deployed_at)
         values ($1, $2, $3, $4, $5, 'tester', ${at}) returning id`,
        [release, model, pinned.digest, environment, status],
      );
      return row?.id ?? '';
    };

    /** Whether it goes, sooner or later. */
    const goes = async () => {
      const collector = collectorOf(two);
      for (const seconds of [0, UNTAGGED + 1, GRACE + 1, 10]) {
        await pass(two, seconds);
        await collector.round();
      }
      return (await head(pinned)) !== 'done';
    };

    for (const status of ['pending', 'active', 'superseded'])
      it(`what a deployment pins that is ${status} stays`, async () => {
        await deploy(status);
        expect(await goes()).to.equal(false);
      });

    for (const status of ['failed', 'retired'])
      it(`what a deployment pinned that is ${status} goes`, async () => {
        await deploy(status);
        expect(await goes()).to.equal(true);
      });

    it('what was superseded before the last one goes', async () => {
      await deploy('superseded', 'prod', `now() - interval '1 day'`);
      const later = await put(two, image({ note: 'later' }));
      await two.database.query(
        `insert into deployments (release_id, model_id, digest, environment, status, deployed_by, deployed_at)
         values ($1, $2, $3, 'prod', 'superseded', 'tester', now())`,
        [release, model, later.digest],
      );
      expect(await goes()).to.equal(true);
      expect(await head(later)).to.equal('done');
    });

    it('what is pinned is an index: all that it lists stays, and what refers to it', async () => {
      const child = pinned;
      const index = await put(two, indexOf([child]));
      const signature = await put(two, image({ subject: child, note: 'signature' }));
      pinned = index;
      await deploy('active');
      expect(await goes()).to.equal(false);
      expect([await head(child), await head(signature)]).to.deep.equal(['done', 'done']);
    });

    it('what a release is stays, with a tag or without', async () => {
      await two.database.query('update releases set digest = $1', [pinned.digest]);
      expect(await goes()).to.equal(false);
    });

    it('a deployment that is made while its manifest goes keeps it', async () => {
      const collector = collectorOf(two);
      await collector.round();
      await pass(two, UNTAGGED + 1);
      await collector.round();
      await pass(two, GRACE + 1);
      const here = two.pauses.hold('collector:chosen');
      const round = collector.round();
      await here.reached;
      await deploy('active');
      here.release();
      await round;
      await pass(two, 10);
      await collector.round();
      expect(await head(pinned)).to.equal('done');
    });
  });
});
