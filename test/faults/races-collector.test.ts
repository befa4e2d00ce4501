import { expect } from 'chai';
import { RegistryError } from '../../src/errors.js';
import type { Digest } from '../../src/oci/digest.js';
import { ACTOR, type Rooms, Site } from '../support/rooms.js';
import { collectorOf, GRACE, HeldChanges, imageOf, OBSERVERS, pass, put } from './collector-scene.js';
import { bytesOf, NAME, OTHER, outcome, push, read, sha256, stillWaits } from './races-scene.js';

const BYTES = bytesOf(1_000);
const DIGEST = sha256(BYTES);
const IMAGE = imageOf(DIGEST, BYTES.length, { tags: ['v1'] });

describe('races of the collector over blobs', () => {
  let site: Site;
  let one: Rooms;
  let two: Rooms;
  let changes: HeldChanges;

  beforeEach(async () => {
    changes = new HeldChanges();
    site = await Site.make();
    one = site.open({ observers: [changes.observer] });
    two = site.open({ observers: OBSERVERS });
  });
  afterEach(async () => await site.dispose());

  const head = (rooms: Rooms, digest: Digest = DIGEST, name = NAME) => outcome(rooms.registry.blobs.get(name, digest));
  const count = async (table: string) => (await two.database.query(`select from ${table}`)).length;

  /** A blob that was pushed long ago and is condemned by now. */
  async function condemned(): Promise<ReturnType<typeof collectorOf>> {
    await push(two, BYTES);
    await pass(two, GRACE + 1);
    const collector = collectorOf(two);
    await collector.round();
    expect(await head(two)).to.equal('BlobUnknown');
    return collector;
  }

  it('what was pushed and never named is condemned after the grace period, and goes after another', async () => {
    await push(two, BYTES);
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, GRACE - 60);
    await collector.round();
    expect(await head(two), 'within the grace period').to.equal('done');
    await pass(two, 61);
    await collector.round();
    expect(await head(two)).to.equal('BlobUnknown');
    expect(await two.registry.blobs.mount(OTHER, DIGEST, NAME, () => true, ACTOR), 'nor mounted').to.equal(undefined);
    expect(collector.counts).to.deep.equal({ condemned: 1, links: 0, blobs: 0, manifests: 0, bytes: 0 });
    await pass(two, GRACE - 60);
    await collector.round();
    expect(await count('repository_blobs')).to.equal(1);
    await pass(two, 61);
    await two.database.query('delete from records');
    await collector.round();
    expect(collector.counts).to.deep.equal({ condemned: 1, links: 1, blobs: 1, manifests: 0, bytes: 1_000 });
    for (const table of ['repository_blobs', 'blobs', 'segments', 'bodies', 'reviews', 'review_requests'])
      expect(await count(table), table).to.equal(0);
    expect(await count('removals')).to.equal(1);
    expect(await two.database.query('select kind, repository, digest from records')).to.deep.equal([
      { kind: 'unlink', repository: NAME, digest: DIGEST },
    ]);
    expect(await two.database.query(`select action from audit_logs where actor = 'collector'`)).to.deep.equal([
      { action: 'blob.delete' },
    ]);
  });

  it('what was seen a moment before it is condemned is not seen when that is done', async () => {
    await push(two, BYTES);
    await pass(two, GRACE + 1);
    const here = two.pauses.hold('collector:links-decided');
    const round = collectorOf(two).round();
    await here.reached;
    expect(await head(one), 'remembered from now on').to.equal('done');
    here.release();
    await round;
    expect(await head(one)).to.equal('BlobUnknown');
  });

  it('what a manifest names stays, also a layer that need not be pushed', async () => {
    await push(two, BYTES);
    await put(two, IMAGE);
    const collector = collectorOf(two);
    await pass(two, 10 * GRACE);
    await collector.round();
    await two.database.query('update manifest_references set blob = null');
    await collector.round();
    expect(await head(two)).to.equal('done');
    expect(collector.counts.condemned).to.equal(0);
  });

  it('a manifest, a commit and a mount of it from elsewhere revive what is condemned', async () => {
    const collector = await condemned();
    await put(two, IMAGE);
    expect(await head(two)).to.equal('done');
    await two.registry.manifests.remove(NAME, IMAGE.digest, ACTOR);
    await collector.round();
    expect(await head(two)).to.equal('BlobUnknown');
    await push(two, BYTES);
    expect(await head(two)).to.equal('done');
    await push(two, BYTES, OTHER);
    await pass(two, GRACE + 1);
    await two.database.query(
      `update repository_blobs set linked_at = now() where repository = (select id from repositories where name = $1)`,
      [OTHER],
    );
    await collector.round();
    expect(await head(two)).to.equal('BlobUnknown');
    expect(await two.registry.blobs.mount(NAME, DIGEST, undefined, () => true, ACTOR)).to.equal(OTHER);
    expect(await head(two)).to.equal('done');
  });

  it('a manifest under way keeps its blob from being condemned', async () => {
    await push(two, BYTES);
    await pass(two, GRACE + 1);
    const here = changes.hold('manifest-pushed');
    const manifest = put(one, IMAGE);
    await here.reached;
    const collector = collectorOf(two);
    await collector.round();
    expect(collector.counts.condemned).to.equal(0);
    here.release();
    await manifest;
    await pass(two, 10);
    await collector.round();
    expect(await head(two)).to.equal('done');
    expect(await count('reviews'), 'decided').to.equal(0);
  });

  it('a manifest that comes while its blob is being condemned waits and revives it', async () => {
    await push(two, BYTES);
    await pass(two, GRACE + 1);
    const here = two.pauses.hold('collector:links-decided');
    const collector = collectorOf(two);
    const round = collector.round();
    await here.reached;
    const manifest = put(one, IMAGE);
    expect(await stillWaits(manifest)).to.equal(true);
    here.release();
    await round;
    await manifest;
    expect(collector.counts.condemned).to.equal(1);
    expect(await head(two)).to.equal('done');
    expect(await read(two, DIGEST)).to.deep.equal(BYTES);
    await pass(two, GRACE + 1);
    await collector.round();
    expect(await read(two, DIGEST)).to.deep.equal(BYTES);
  });

  it('a manifest that comes while its blob goes is refused', async () => {
    const collector = await condemned();
    await pass(two, GRACE + 1);
    const here = two.pauses.hold('collector:links-decided');
    const round = collector.round();
    await here.reached;
    const manifest = outcome(put(one, IMAGE));
    expect(await stillWaits(manifest)).to.equal(true);
    here.release();
    await round;
    expect(await manifest).to.equal('ManifestBlobUnknown');
    expect(await count('blobs')).to.equal(0);
  });

  it('a manifest under way keeps its condemned blob from going', async () => {
    const collector = await condemned();
    await pass(two, GRACE + 1);
    const here = changes.hold('manifest-pushed');
    const manifest = put(one, IMAGE);
    await here.reached;
    await collector.round();
    expect(collector.counts.links).to.equal(0);
    here.release();
    await manifest;
    await pass(two, 10);
    await collector.round();
    expect(await read(two, DIGEST)).to.deep.equal(BYTES);
  });

  it('a commit that comes while the blob goes makes it anew', async () => {
    const collector = await condemned();
    await pass(two, GRACE + 1);
    const here = two.pauses.hold('collector:links-decided');
    const round = collector.round();
    await here.reached;
    const again = push(one, BYTES);
    expect(await stillWaits(again)).to.equal(true);
    here.release();
    await round;
    await again;
    expect(collector.counts.blobs).to.equal(1);
    expect(await read(two, DIGEST)).to.deep.equal(BYTES);
    expect(await count('bodies')).to.equal(1);
  });

  it('a mount under way keeps the blob when its last other link goes', async () => {
    await push(two, BYTES);
    const here = changes.hold('blob-mounted');
    const mount = one.registry.blobs.mount(OTHER, DIGEST, NAME, () => true, ACTOR);
    await here.reached;
    await two.registry.blobs.remove(NAME, DIGEST, ACTOR);
    const collector = collectorOf(two);
    await collector.decide();
    here.release();
    expect(await mount).to.equal(NAME);
    await pass(two, 10);
    await collector.round();
    expect(collector.counts.blobs).to.equal(0);
    expect(await read(two, DIGEST, OTHER)).to.deep.equal(BYTES);
    await two.registry.blobs.remove(OTHER, DIGEST, ACTOR);
    await collector.decide();
    expect(collector.counts).to.include({ blobs: 1, bytes: 1_000 });
    expect(await count('blobs')).to.equal(0);
  });

  it('a mount that is undone while the last link goes leaves nothing behind', async () => {
    await push(two, BYTES);
    await pass(two, GRACE + 1);
    const here = changes.hold('blob-mounted');
    const undone = outcome(
      one.registry.blobs
        .mount(OTHER, DIGEST, NAME, () => true, ACTOR)
        .then(() => {
          throw new Error('was not undone');
        }),
    );
    await here.reached;
    const collector = collectorOf(two);
    await collector.round();
    await pass(two, GRACE + 1);
    await collector.round();
    expect(collector.counts).to.include({ links: 1, blobs: 0 });
    here.fail(new RegistryError('Unavailable', 'undone'));
    expect(await undone).to.equal('Unavailable');
    await pass(two, 10);
    await collector.decide();
    expect(collector.counts.blobs).to.equal(1);
    expect(await count('blobs')).to.equal(0);
  });

  it('a blob that one repository needs is condemned in another, and stays', async () => {
    await push(two, BYTES);
    await push(two, BYTES, OTHER);
    await put(two, imageOf(DIGEST, BYTES.length, { tags: ['v1'], name: OTHER }));
    const collector = collectorOf(two);
    for (let round = 0; round < 2; round++) {
      await pass(two, GRACE + 1);
      await collector.round();
    }
    expect(collector.counts).to.deep.equal({ condemned: 1, links: 1, blobs: 0, manifests: 0, bytes: 0 });
    expect(await head(two)).to.equal('BlobUnknown');
    expect(await read(two, DIGEST, OTHER)).to.deep.equal(BYTES);
  });

  it('two collectors at once take each blob once', async () => {
    const digests = await Promise.all(Array.from({ length: 20 }, (_, index) => push(two, bytesOf(500, index + 2))));
    const collectors = [collectorOf(one), collectorOf(two)];
    for (let round = 0; round < 2; round++) {
      await pass(two, GRACE + 1);
      await Promise.all(collectors.map((collector) => collector.round()));
      await pass(two, 10);
      await Promise.all(collectors.map((collector) => collector.round()));
    }
    const sum = (what: 'blobs' | 'bytes' | 'condemned') =>
      collectors.reduce((total, { counts }) => total + counts[what], 0);
    expect([sum('condemned'), sum('blobs'), sum('bytes')]).to.deep.equal([20, 20, 500 * 20]);
    expect(await count('blobs')).to.equal(0);
    expect(await count('removals')).to.equal(digests.length);
  });

  it('a collector that is killed in the middle changed nothing, and the next one goes on', async () => {
    const collector = await condemned();
    await pass(two, GRACE + 1);
    const dying = collectorOf(two, {
      pause: (name) => {
        if (name === 'collector:links-decided') throw new Error('killed');
      },
    });
    await dying.round().then(
      () => expect.fail('not killed'),
      (error: Error) => expect(error.message).to.equal('killed'),
    );
    expect([await count('blobs'), await count('repository_blobs'), await count('removals')]).to.deep.equal([1, 1, 0]);
    await collector.round();
    expect(await count('blobs')).to.equal(0);
  });

  it('a review that is asked for again while it is being decided is decided again', async () => {
    await push(two, BYTES);
    await put(two, IMAGE);
    const collector = collectorOf(two);
    await pass(two, GRACE + 1);
    // Queued while a manifest named it, decided as named, and the name taken away in the middle of that.
    await two.database.query(
      `insert into reviews (kind, repository, digest) select 'blob', repository, digest from repository_blobs`,
    );
    const here = two.pauses.hold('collector:links-decided');
    const round = collector.decide();
    await here.reached;
    await one.registry.manifests.remove(NAME, IMAGE.digest, ACTOR);
    here.release();
    await round;
    await collector.decide();
    expect(await head(two)).to.equal('BlobUnknown');
  });

  it('stands still while a version serves that does not know of it', async () => {
    await push(two, BYTES);
    await pass(two, GRACE + 1);
    const older = site.open({ pool: 1 });
    await older.database.transaction(async (transaction) => {
      const { LISTENER } = await import('../../src/database/notify.js');
      await transaction.query(`set application_name to '${LISTENER} 0011'`);
      const collector = collectorOf(two);
      await collector.round();
      expect(collector.counts.condemned).to.equal(0);
    });
  });
});
