import { expect } from 'chai';
import { previewCollection } from '../../../src/gc/collect-preview.js';
import { PINNED } from '../../../src/metadata/pins.js';
import { attachedTags } from '../../../src/oci/attached-tags.js';
import { type Digest, digestOf } from '../../../src/oci/digest.js';
import type { ManifestPush } from '../../../src/registry/manifest-rows.js';
import { ACTOR, repository, type Rooms, Site } from '../../support/rooms.js';
import { collectorOf, GRACE, imageOf, indexOf, OBSERVERS, pass, put, UNTAGGED } from '../../faults/collector-scene.js';
import { bytesOf, push } from '../../faults/races-scene.js';

const NAMES = ['team/a', 'team/b', 'team/kept'].map(repository);
const KEPT = 'team/kept';
const untagged = () => Promise.resolve((name: string) => (name === KEPT ? undefined : UNTAGGED));

describe('the preview of a collection', () => {
  let site: Site;
  let rooms: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    rooms = site.open({ observers: OBSERVERS });
  });
  afterEach(async () => await site.dispose());

  const preview = () =>
    previewCollection(
      rooms.database,
      {
        graceSeconds: GRACE,
        manifestGraceSeconds: GRACE,
        pinned: PINNED,
        untagged,
        protectedTags: () => Promise.resolve(() => false),
      },
      null,
    );

  const collector = () => collectorOf(rooms, { untagged });

  /** Lets all that can go go. */
  async function collectAll() {
    const one = collector();
    await one.round();
    for (let level = 0; level < 5; level++)
      for (const seconds of [UNTAGGED + 1, GRACE + 1, GRACE + 1, GRACE + 1]) {
        await pass(rooms, seconds);
        await one.round();
      }
    return one.counts;
  }

  it('is of nothing where everything is named', async () => {
    const digest = await push(rooms, bytesOf(100), NAMES[0]);
    await put(rooms, imageOf(digest, 100, { tags: ['v1'], name: repository('team/a') }));
    expect(await preview()).to.deep.equal({ manifests: [], repositories: [] });
  });

  it('says why, since when, and when it goes', async () => {
    const [name = repository('team/a')] = NAMES;
    const digest = await push(rooms, bytesOf(100), name);
    const subject = await put(rooms, imageOf(digest, 100, { tags: ['v1'], name }));
    const signature = await put(rooms, imageOf(digest, 100, { subject, note: 'signature', name }));
    const lonely = await put(rooms, imageOf(digest, 100, { note: 'lonely', name }));
    const child = await put(rooms, imageOf(digest, 100, { note: 'child', name }));
    const index = await put(rooms, indexOf([child], { tags: ['all'], name }));
    const reasons = async () => {
      const { manifests } = await preview();
      return Object.fromEntries(manifests.map((one) => [one.digest, one.why]));
    };
    expect(await reasons()).to.deep.equal({ [lonely.digest]: 'nothing names it' });
    expect((await preview()).manifests[0]).to.include({ since: null, goes: null, repository: name });
    await rooms.registry.tags.remove(name, 'all' as never, ACTOR);
    await rooms.registry.manifests.remove(name, subject.digest, ACTOR);
    expect(await reasons()).to.deep.equal({
      [lonely.digest]: 'nothing names it',
      [index.digest]: 'nothing names it',
      [child.digest]: 'only what goes lists it',
      [signature.digest]: 'its subject was removed',
    });
    const { manifests, repositories } = await preview();
    const days = manifests
      .filter(({ goes }) => goes !== null)
      .map(({ goes }) => (Number(goes) - Date.now()) / 86_400_000);
    expect(Math.max(...days)).to.be.within(7, 7.1);
    expect(Math.min(...days)).to.be.within(0, 0.1);
    expect(repositories).to.deep.equal([
      { repository: name, model: null, manifests: 4, links: 1, blobs: 1, bytes: 100 },
    ]);
  });

  it('is what the collector takes in the end', async () => {
    // Drawn, and the same each time.
    let state = 20_261_128;
    const draw = (below: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const pushed = new Map(NAMES.map((name) => [name, [] as ManifestPush[]]));
    for (let step = 0; step < 140; step++) {
      const name = NAMES[draw(NAMES.length)] ?? repository('team/a');
      const there = pushed.get(name) ?? [];
      const some = there[draw(there.length)];
      const tags = draw(3) === 0 ? [`v${draw(6)}`] : [];
      const size = 100 + draw(30);
      const blob = async (): Promise<Digest> => await push(rooms, bytesOf(size, size), name);
      switch (draw(7)) {
        case 0:
          await blob();
          break;
        case 1:
          if (some) there.push(await put(rooms, indexOf([some], { tags, name })));
          break;
        case 2:
          if (some) there.push(await put(rooms, imageOf(await blob(), size, { subject: some, note: `${step}`, name })));
          break;
        case 3: {
          const { index, others } = attachedTags(some?.digest ?? digestOf('sha256', Buffer.from(`${step}`)));
          const hung = [[index, ...others][draw(4)] ?? index, ...(draw(4) === 0 ? tags : [])];
          there.push(await put(rooms, imageOf(await blob(), size, { tags: hung, note: `${draw(20)}`, name })));
          break;
        }
        case 4:
          if (some) await rooms.registry.manifests.remove(name, some.digest, ACTOR).catch(() => undefined);
          break;
        default:
          there.push(await put(rooms, imageOf(await blob(), size, { tags, note: `${draw(20)}`, name })));
      }
    }
    const { manifests, repositories } = await preview();
    const digests = async () => {
      const rows = await rooms.database.query<{ digest: string }>('select repository, digest from manifests');
      return rows.map(({ digest }) => digest).sort();
    };
    const before = await digests();
    const counts = await collectAll();
    const gone = manifests.map(({ digest }) => digest);
    expect(gone.length).to.be.above(10);
    expect(before).to.have.members([...(await digests()), ...gone]);
    const sum = (what: 'manifests' | 'links' | 'blobs' | 'bytes') =>
      repositories.reduce((total, one) => total + one[what], 0);
    expect(counts).to.include({
      manifests: sum('manifests'),
      links: sum('links'),
      blobs: sum('blobs'),
      bytes: sum('bytes'),
    });
    expect(counts.blobs).to.be.above(0);
    expect(await preview()).to.deep.equal({ manifests: [], repositories: [] });
  });
});
