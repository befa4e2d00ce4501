import { expect } from 'chai';
import { parseManifest } from '../../src/oci/manifest.js';
import { parseTag } from '../../src/oci/name.js';
import type { Change, ChangeObserver } from '../../src/registry/changes.js';
import { ACTOR, type Rooms, Site } from '../support/rooms.js';
import { bytesOf, NAME, OTHER, outcome, push, read, sha256, stillWaits } from './races-scene.js';

const BYTES = bytesOf(1_000);
const DIGEST = sha256(BYTES);
const MEDIA_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const TAG = parseTag('v1');

const PAYLOAD = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE,
    artifactType: 'application/vnd.example',
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: DIGEST, size: BYTES.length },
    layers: [],
  }),
);

describe('races of names', () => {
  let site: Site;
  let one: Rooms;
  let two: Rooms;
  let waits: Map<Change['kind'], { arrive: () => void; free: Promise<void> }>;

  /** Holds the next change of that kind inside its transaction. */
  function hold(kind: Change['kind']) {
    let release = () => {};
    let arrive = () => {};
    const free = new Promise<void>((resolve) => {
      release = resolve;
    });
    const reached = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    waits.set(kind, { arrive, free });
    return { reached, release: () => release() };
  }

  beforeEach(async () => {
    waits = new Map();
    const observer: ChangeObserver = async (change) => {
      const held = waits.get(change.kind);
      waits.delete(change.kind);
      held?.arrive();
      await held?.free;
    };
    site = await Site.make();
    one = site.open({ observers: [observer] });
    two = site.open();
    await push(two, BYTES);
  });
  afterEach(async () => await site.dispose());

  const put = (rooms: Rooms) =>
    rooms.registry.manifests.put(
      {
        repository: NAME,
        digest: sha256(PAYLOAD),
        payload: PAYLOAD,
        manifest: parseManifest(PAYLOAD, MEDIA_TYPE, { maxBytes: 65_536, maxDepth: 64, maxDescriptors: 1000 }),
        tags: [TAG],
      },
      ACTOR,
    );
  const get = (rooms: Rooms) => outcome(rooms.registry.manifests.get(NAME, { tag: TAG }));

  it('a manifest that comes while its blob is being deleted is refused', async () => {
    const held = hold('blob-removed');
    const removal = one.registry.blobs.remove(NAME, DIGEST, ACTOR);
    await held.reached;
    const manifest = outcome(put(two));
    expect(await stillWaits(manifest)).to.equal(true);
    held.release();
    await removal;
    expect(await manifest).to.equal('ManifestBlobUnknown');
  });

  it('a blob that is deleted while a manifest that names it comes is kept', async () => {
    const held = hold('manifest-pushed');
    const manifest = put(one);
    await held.reached;
    const removal = outcome(two.registry.blobs.remove(NAME, DIGEST, ACTOR));
    expect(await stillWaits(removal)).to.equal(true);
    held.release();
    await manifest;
    expect(await removal).to.equal('BlobReferenced');
    expect(await read(two, DIGEST)).to.deep.equal(BYTES);
  });

  it('a tag that is put while its manifest is being deleted is put with the manifest anew', async () => {
    await put(two);
    const held = hold('manifest-removed');
    const removal = one.registry.manifests.remove(NAME, sha256(PAYLOAD), ACTOR);
    await held.reached;
    const again = put(two);
    expect(await stillWaits(again)).to.equal(true);
    held.release();
    await removal;
    await again;
    expect(await get(two)).to.equal('done');
  });

  it('a manifest that is deleted while a tag is put on it takes the tag with it', async () => {
    await put(two);
    await two.registry.tags.remove(NAME, TAG, ACTOR);
    const held = hold('manifest-pushed');
    const again = put(one);
    await held.reached;
    const removal = two.registry.manifests.remove(NAME, sha256(PAYLOAD), ACTOR);
    expect(await stillWaits(removal)).to.equal(true);
    held.release();
    await again;
    await removal;
    expect(await get(two)).to.equal('ManifestUnknown');
    expect(await two.database.query('select from tags')).to.have.length(0);
  });

  it('a mount waits for whoever takes the blob, and then mounts nothing', async () => {
    let mount: Promise<unknown> = Promise.resolve();
    await two.database.transaction(async (collector) => {
      await collector.query('select from blobs for update');
      mount = one.registry.blobs.mount(OTHER, DIGEST, NAME, () => true, ACTOR);
      expect(await stillWaits(mount)).to.equal(true);
      await collector.query('delete from repository_blobs');
      await collector.query('delete from blobs');
    });
    expect(await mount).to.equal(undefined);
    expect(await one.database.query(`select from repository_blobs`)).to.have.length(0);
  });

  it('whoever would take a blob waits for a mount under way, and finds its link', async () => {
    const held = hold('blob-mounted');
    const mount = one.registry.blobs.mount(OTHER, DIGEST, NAME, () => true, ACTOR);
    await held.reached;
    const collector = two.database.transaction(async (transaction) => {
      await transaction.query('select from blobs for update');
      return await transaction.query('select from repository_blobs');
    });
    expect(await stillWaits(collector)).to.equal(true);
    held.release();
    expect(await mount).to.equal(NAME);
    expect(await collector).to.have.length(2);
  });
});
