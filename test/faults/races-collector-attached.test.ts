import { expect } from 'chai';
import type { ProtectedTags } from '../../src/gc/review-manifests.js';
import { checkThere, putTag } from '../../src/metadata/put-tag.js';
import { previewCollection } from '../../src/gc/collect-preview.js';
import { PINNED } from '../../src/metadata/pins.js';
import { attachedTags } from '../../src/oci/attached-tags.js';
import { digestOf } from '../../src/oci/digest.js';
import { parseTag } from '../../src/oci/name.js';
import type { ManifestPush } from '../../src/registry/manifest-rows.js';
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
const signatureTag = ({ digest }: Pick<ManifestPush, 'digest'>) => attachedTags(digest).others[0] ?? '';
const signature = (subject: Pick<ManifestPush, 'digest'>, tags: readonly string[] = []) =>
  image({ tags: [signatureTag(subject), ...tags], note: 'signature' });

describe('races of the collector over what tags attach', () => {
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
  const remove = ({ digest }: Pick<ManifestPush, 'digest'>) => two.registry.manifests.remove(NAME, digest, ACTOR);
  const none: ProtectedTags = () => Promise.resolve(() => false);
  const going = async (protectedTags = none) => {
    const options = { graceSeconds: GRACE, manifestGraceSeconds: GRACE, pinned: PINNED, protectedTags };
    const { manifests } = await previewCollection(
      two.database,
      { ...options, untagged: () => Promise.resolve(() => UNTAGGED) },
      null,
    );
    return Object.fromEntries(manifests.map(({ digest, why }) => [digest, why]));
  };

  /** Lets all that can go go. */
  const collectAll = async (collector = collectorOf(two)) => {
    for (const seconds of [0, GRACE + 1, GRACE + 1, UNTAGGED + 1, GRACE + 1, GRACE + 1]) {
      await pass(two, seconds);
      await collector.round();
    }
  };

  it('a signature goes with its subject, a grace period after it, and its tag with it', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject));
    const collector = collectorOf(two);
    await collectAll(collector);
    expect(await head(signed), 'as long as its subject is there').to.equal('done');
    expect(await going()).to.deep.equal({});
    await remove(subject);
    expect(await going()).to.deep.equal({ [signed.digest]: 'its subject was removed' });
    await collector.round();
    expect(await head(signed), 'condemned at once').to.equal('ManifestUnknown');
    expect(await going()).to.deep.equal({ [signed.digest]: 'its subject was removed' });
    await pass(two, GRACE - 60);
    await collector.round();
    expect(collector.counts.manifests).to.equal(0);
    await pass(two, 120);
    await collector.round();
    expect(collector.counts.manifests).to.equal(1);
    expect(await two.registry.tags.list(NAME, '', 10)).to.deep.equal([]);
    expect(
      await two.database.query(
        `select action, resource_id as what from audit_logs where actor = 'collector' order by action`,
      ),
    ).to.have.length(1);
  });

  it('so does what hangs on the other tags, an index of the fallback, and what was signed by sha512', async () => {
    const payload = image({ tags: ['v1'] });
    const long = { ...payload, digest: digestOf('sha512', payload.payload) };
    for (const subject of [payload, long]) {
      await put(two, subject);
      const { index, others } = attachedTags(subject.digest);
      expect(index.length).to.equal(71);
      const hung = await Promise.all(others.map((tag) => put(two, image({ tags: [tag], note: tag }))));
      const listed = await put(two, image({ note: 'listed' }));
      hung.push(await put(two, indexOf([listed], { tags: [index] })));
      await remove(subject);
      expect(Object.keys(await going())).to.have.members([...hung, listed].map(({ digest }) => digest));
      await collectAll();
      expect(await two.database.query('select from manifests')).to.have.length(0);
    }
  });

  it('stays where its subject never was', async () => {
    const elsewhere = image({ note: 'elsewhere' });
    const signed = await put(two, signature(elsewhere));
    await remove(await put(two, image({ tags: ['v1'], note: 'another' })));
    await collectAll();
    expect(await head(signed)).to.equal('done');
  });

  it('stays if it is attached to another subject, too, of which nobody knows whether it ever was here', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const elsewhere = image({ note: 'elsewhere' });
    const signed = await put(two, signature(subject, [signatureTag(elsewhere)]));
    await remove(subject);
    expect(await going()).to.deep.equal({});
    await collectAll();
    expect(await head(signed)).to.equal('done');
  });

  it('stays as long as another tag or an index names it', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject, ['kept']));
    const stamped = await put(two, image({ tags: [attachedTags(subject.digest).others[1] ?? ''], note: 'listed' }));
    await put(two, indexOf([stamped], { tags: ['all'] }));
    await remove(subject);
    expect(await going()).to.deep.equal({});
    await collectAll();
    expect([await head(signed), await head(stamped)]).to.deep.equal(['done', 'done']);
  });

  it('stays as long as a deployment pins it', async () => {
    const subject = await put(two, image({ note: 'subject' }));
    const signed = await put(two, signature(subject));
    await two.database.query(
      `with model as (insert into models (name, storage_path, repository_id, created_by)
                      select 'm', name, id, 'tester' from repositories where name = $1 returning id),
            release as (insert into releases (model_id, version, tag, status, version_order, created_by)
                        select id, 'v1', 'v1', 'draft', '1', 'tester' from model returning id, model_id)
       insert into deployments (release_id, model_id, digest, environment, status, deployed_by, deployed_at)
       select id, model_id, $2, 'prod', 'active', 'tester', now() from release`,
      [NAME, signed.digest],
    );
    await remove(subject);
    expect(await going()).to.deep.equal({});
    await collectAll();
    expect(await head(signed)).to.equal('done');
  });

  it('an image under a tag of the fallback is no referrer: mirrors name images so', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const converted = await put(two, image({ tags: [attachedTags(subject.digest).index], note: 'converted' }));
    await remove(subject);
    expect(await going()).to.deep.equal({});
    await collectAll();
    expect(await head(converted)).to.equal('done');
  });

  it('is there again at once when its subject is, and stays', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject));
    const collector = collectorOf(two);
    await remove(subject);
    await put(two, subject);
    await collector.round();
    expect(await head(signed), 'the subject was back before the review').to.equal('done');
    await remove(subject);
    await collector.round();
    expect(await head(signed)).to.equal('ManifestUnknown');
    await put(two, subject);
    expect(await head(signed)).to.equal('done');
    expect(await going()).to.deep.equal({});
    await collectAll(collector);
    expect(await head(signed)).to.equal('done');
  });

  it('is there again when it is pushed again, and stays, with its subject or without', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject));
    const collector = collectorOf(two);
    await remove(subject);
    await put(two, signed);
    await collector.round();
    expect(await head(signed), 'pushed before the review').to.equal('done');
    await put(two, subject);
    await remove(subject);
    await collector.round();
    expect(await head(signed)).to.equal('ManifestUnknown');
    await put(two, signed);
    expect(await head(signed)).to.equal('done');
    expect(await going()).to.deep.equal({});
    await collectAll(collector);
    expect(await head(signed)).to.equal('done');
  });

  it('a subject that the collector removes takes it along, and the preview says so before', async () => {
    const subject = await put(two, image({ note: 'subject' }));
    const signed = await put(two, signature(subject));
    const stamp = await put(two, image({ tags: [signatureTag(signed)], note: 'stamp' }));
    expect(await going()).to.deep.equal({
      [subject.digest]: 'nothing names it',
      [signed.digest]: 'it refers to what goes',
      [stamp.digest]: 'it refers to what goes',
    });
    await collectAll();
    await collectAll();
    expect(await two.database.query('select from manifests')).to.have.length(0);
    expect(await two.database.query('select from tags')).to.have.length(0);
  });

  it('one with a protected tag stays, and is not looked at again and again', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject));
    const protectedTags: ProtectedTags = () => Promise.resolve((_name, tag) => tag.endsWith('.sig'));
    const collector = collectorOf(two, { protectedTags });
    await remove(subject);
    expect(await going(protectedTags)).to.deep.equal({});
    await collectAll(collector);
    expect(await head(signed)).to.equal('done');
    expect(await two.database.query(`select from reviews where kind = 'manifest'`)).to.have.length(0);
  });

  it('one whose tag is protected after it was condemned comes back', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject));
    let isProtected = false;
    const collector = collectorOf(two, { protectedTags: () => Promise.resolve(() => isProtected) });
    await remove(subject);
    await collector.round();
    await pass(two, GRACE + 1);
    const here = two.pauses.hold('collector:before-removal');
    const round = collector.round();
    await here.reached;
    isProtected = true;
    here.release();
    await round;
    expect(collector.counts.manifests).to.equal(0);
    expect(await head(signed)).to.equal('done');
  });

  it('a subject that comes between the decision and the removal keeps it', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject));
    const collector = collectorOf(two);
    await remove(subject);
    await collector.round();
    await pass(two, GRACE + 1);
    const here = two.pauses.hold('collector:before-removal');
    const round = collector.round();
    await here.reached;
    await put(one, subject);
    here.release();
    await round;
    expect(collector.counts.manifests).to.equal(0);
    expect(await head(signed)).to.equal('done');
  });

  it('one that is pushed again between the decision and the removal stays, also where nothing waits', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject));
    const collector = collectorOf(two, { untagged: () => Promise.resolve(() => 0) });
    await remove(subject);
    await collector.round();
    await pass(two, GRACE + 1);
    const here = two.pauses.hold('collector:before-removal');
    const round = collector.round();
    await here.reached;
    await put(one, signed);
    here.release();
    await round;
    expect(await head(signed)).to.equal('done');
    expect(collector.counts).to.include({ condemned: 1, manifests: 0 });
  });

  it('a signature that is pushed while it goes is there afterwards', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject));
    const collector = collectorOf(two);
    await remove(subject);
    await collector.round();
    await pass(two, GRACE + 1);
    const here = two.pauses.hold('collector:manifest-decided');
    const round = collector.round();
    await here.reached;
    const again = put(one, signed);
    expect(await stillWaits(again)).to.equal(true);
    here.release();
    await round;
    await again;
    expect(collector.counts.manifests).to.equal(1);
    await collectAll(collector);
    expect(await head(signed)).to.equal('done');
    expect(await two.registry.tags.list(NAME, '', 10)).to.deep.equal([signatureTag(subject)]);
  });

  it('a tag that the API sets on it revives it, and it stays', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const signed = await put(two, signature(subject));
    const [{ id = 0 } = {}] = await two.database.query<{ id: number }>('select id from repositories');
    const place = { repository_id: id, name: NAME };
    const caller = {
      actor: ACTOR,
      rights: { seesAll: true, maySee: () => true, require: () => undefined, requireAdmin: () => undefined },
      expect: () => undefined,
      record: () => Promise.resolve(),
    };
    const collector = collectorOf(two);
    await remove(subject);
    const here = two.pauses.hold('collector:manifests-decided');
    const round = collector.round();
    await here.reached;
    const tagged = one.database.transaction(async (transaction) => {
      await checkThere(transaction, place, signed.digest);
      await putTag(transaction, caller, place, parseTag('stable'), signed.digest);
    });
    expect(await stillWaits(tagged)).to.equal(true);
    here.release();
    await round;
    await tagged;
    await collectAll(collector);
    expect(await head(signed)).to.equal('done');
  });

  it('one whose push is under way while its subject is removed stays, as one that comes after', async () => {
    const subject = await put(two, image({ tags: ['v1'] }));
    const here = changes.hold('manifest-pushed');
    const late = put(one, signature(subject));
    await here.reached;
    await remove(subject);
    here.release();
    const signed = await late;
    await collectAll();
    expect(await head(signed), 'as one that is kept apart from its subject').to.equal('done');
  });
});
