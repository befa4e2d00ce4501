import { expect } from 'chai';
import { setTimeout as sleep } from 'node:timers/promises';
import { guardTags } from '../../../src/commands/tag-guard.js';
import { isFailure } from '../../../src/errors.js';
import { digestOf } from '../../../src/oci/digest.js';
import { parseManifest } from '../../../src/oci/manifest.js';
import { parseTag, type Tag } from '../../../src/oci/name.js';
import { createPolicy, removePolicy } from '../../../src/policies/policies.js';
import { ACTOR, repository, type Rooms, Site } from '../../support/rooms.js';

const NAME = repository('team/model');
const INDEX = 'application/vnd.oci.image.index.v1+json';
const LIMITS = { maxBytes: 1_000_000, maxDepth: 20, maxDescriptors: 100 };
const [PROD, FREE] = ['prod', 'free'].map(parseTag) as [Tag, Tag];
const UNHEARD = { actor: ACTOR, observers: [] };
const SOMEBODY = { ...ACTOR, admin: false };

describe('the guard of protected tags', () => {
  let site: Site;
  let rooms: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    rooms = site.open({ observers: [guardTags] });
  });
  afterEach(async () => await site.dispose());

  const push = async (name: string, tags: Tag[], actor = ACTOR) => {
    const text = { schemaVersion: 2, mediaType: INDEX, manifests: [], annotations: { name } };
    const payload = Buffer.from(JSON.stringify(text));
    const digest = digestOf('sha256', payload);
    const manifest = parseManifest(payload, INDEX, LIMITS);
    await rooms.registry.manifests.put({ repository: NAME, digest, payload, manifest, tags }, actor);
    return digest;
  };
  const protect = async () =>
    await rooms.database.transaction((transaction) =>
      createPolicy(transaction, 'team/*', { protected_tags: ['prod'] }, 10, UNHEARD),
    );
  const outcome = async (work: Promise<unknown>) =>
    await work.then(
      () => 'done',
      (error: unknown) => (isFailure(error) ? error.failure : String(error)),
    );

  it('refuses whoever is said to be no admin, and neither admins nor the registry itself', async () => {
    await push('one', [PROD]);
    await protect();
    expect(await outcome(push('two', [PROD], SOMEBODY))).to.equal('Denied');
    expect(await outcome(push('two', [FREE, PROD], SOMEBODY))).to.equal('Denied');
    expect(await outcome(rooms.registry.tags.remove(NAME, PROD, SOMEBODY))).to.equal('Denied');
    expect(await outcome(push('three', [PROD], { ...ACTOR, admin: true }))).to.equal('done');
    expect(await outcome(push('four', [PROD], ACTOR))).to.equal('done');
    const digest = await push('five', [PROD], ACTOR);
    expect(await outcome(rooms.registry.manifests.remove(NAME, digest, SOMEBODY))).to.equal('Denied');
    expect(await outcome(rooms.registry.manifests.remove(NAME, digest, ACTOR))).to.equal('done');
    expect(await outcome(push('six', [PROD], SOMEBODY)), 'a new tag').to.equal('done');
  });

  it('knows a policy that was set while a change waited for the tag, and one that went', async () => {
    await push('one', [PROD]);
    const { database } = rooms;
    /** Holds the tag while both come: the change waits for it. */
    const during = async (work: () => Promise<unknown>, change: () => Promise<unknown>) => {
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      const holding = database.transaction(async (transaction) => {
        await transaction.query('select from tags for update');
        await held;
      });
      await sleep(50);
      const told = outcome(change());
      await sleep(100);
      await work();
      release();
      await holding;
      return await told;
    };
    const remove = () => rooms.registry.tags.remove(NAME, PROD, SOMEBODY);
    let id = '';
    const set = async () => {
      ({ id } = await protect());
    };
    expect(await during(set, remove)).to.equal('Denied');
    const unset = async () =>
      await database.transaction((transaction) =>
        removePolicy(transaction, id, { announced: UNHEARD, expect: () => undefined }),
      );
    expect(await during(unset, remove)).to.equal('done');
  });
});
