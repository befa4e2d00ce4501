import { expect } from 'chai';
import { putAlias } from '../../src/metadata/aliases.js';
import { createDeployment } from '../../src/metadata/deployment-changes.js';
import { followChanges } from '../../src/metadata/follow.js';
import { changeModel } from '../../src/metadata/model-changes.js';
import { changePolicy, removePolicy } from '../../src/policies/policies.js';
import type { ChangeObserver } from '../../src/registry/changes.js';
import { ACTOR, Pauses } from '../support/rooms.js';
import { age, retentionOf, say, tagsOf } from '../support/retention.js';
import { CALLER, ModelScene, type Work } from '../unit/metadata/model-scene.js';

const ANNOUNCED = { announced: { actor: ACTOR, observers: [] }, expect: () => undefined };

describe('races of retention', () => {
  let scene: ModelScene;
  let pauses: Pauses;
  let policy: string;

  beforeEach(async () => {
    scene = await ModelScene.make();
    pauses = new Pauses();
    for (const tag of ['v1', 'v2']) {
      await scene.run(scene.push(await scene.image(tag), tag));
      await age(scene.database, tag, 30);
    }
    policy = await say(scene.database, '**', { retention: { last: 1 } });
  });
  afterEach(async () => await scene.dispose());

  const round = async () => await retentionOf(scene.database, { pause: pauses.point }).round();
  const release = async (tag: string) => (await scene.release(tag))?.id ?? '';
  const ways: Record<string, () => Promise<Work<unknown>>> = {
    'a deployment of it': async () => {
      const release_id = await release('v1');
      return async (transaction) => await createDeployment(transaction, CALLER, { release_id, environment: 'prod' });
    },
    'an alias of it': async () => {
      const release_id = await release('v1');
      return async (transaction) => await putAlias(transaction, CALLER, 'crossing', 'stable', { release_id });
    },
    'a push that moves its tag': async () => scene.push(await scene.image('anew'), 'v1'),
    'a policy that keeps everything': () =>
      Promise.resolve(
        async (transaction) => await changePolicy(transaction, policy, { retention: { keep: true } }, ANNOUNCED),
      ),
    'a policy that is removed': () =>
      Promise.resolve(async (transaction) => {
        await removePolicy(transaction, policy, ANNOUNCED);
      }),
    'a model that keeps everything': () =>
      Promise.resolve(
        async (transaction) =>
          await changeModel(transaction, CALLER, 'crossing', { retention: { keep: true } }, 'merge'),
      ),
    'a model that becomes immutable': () =>
      Promise.resolve(
        async (transaction) => await changeModel(transaction, CALLER, 'crossing', { immutable: true }, 'merge'),
      ),
  };

  for (const [name, way] of Object.entries(ways)) {
    it(`${name} after it was judged keeps it`, async () => {
      const judged = pauses.hold('retention:judged');
      const running = round();
      await judged.reached;
      await scene.run(await way());
      judged.release();
      expect(await running).to.equal(0);
      expect(await tagsOf(scene.database)).to.include('v1');
    });

    it(`${name}, not yet committed when it is to go, is waited for, and keeps it`, async () => {
      const work = await way();
      const judged = pauses.hold('retention:judged');
      const running = round();
      await judged.reached;
      const held = await scene.hold(work);
      let over = false;
      void running.then(() => {
        over = true;
      });
      judged.release();
      const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      while (!over && (await scene.database.query(waiting)).length === 0) await new Promise(setImmediate);
      expect(over, 'it waits').to.equal(false);
      await held.commit();
      expect(await running).to.equal(0);
      expect(await tagsOf(scene.database)).to.include('v1');
      expect(await scene.faults()).to.deep.equal([]);
    });
  }

  for (const name of ['a deployment of it', 'a policy that keeps everything', 'a model that keeps everything'])
    it(`${name} that comes when it is decided waits until it is gone`, async () => {
      const work = await ways[name]?.();
      const decided = pauses.hold('retention:decided');
      const running = round();
      await decided.reached;
      let over = false;
      const other = Promise.allSettled([scene.run(work as Work<unknown>)]).then(([result]) => {
        over = true;
        return result.status;
      });
      const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      while (!over && (await scene.database.query(waiting)).length === 0) await new Promise(setImmediate);
      expect(over, 'it waits').to.equal(false);
      decided.release();
      expect(await running).to.equal(1);
      expect(await other).to.equal(name === 'a deployment of it' ? 'rejected' : 'fulfilled');
      expect(await tagsOf(scene.database)).to.deep.equal(['v2']);
      expect(await scene.faults()).to.deep.equal([]);
    });

  it('two of them at once take each release once', async () => {
    const judged = pauses.hold('retention:judged');
    const running = round();
    await judged.reached;
    expect(await retentionOf(scene.database).round()).to.equal(1);
    judged.release();
    expect(await running).to.equal(0);
    const rows = await scene.database.query(`select from audit_logs where actor = 'retention'`);
    expect(rows).to.have.length(1);
  });

  it('what can’t be removed holds up nothing else, and is tried again', async () => {
    await scene.run(scene.push(await scene.image('v0'), 'v0'));
    await age(scene.database, 'v0', 30);
    const refuse: ChangeObserver = (change) =>
      change.kind === 'tag-removed' && change.tag === 'v0' ? Promise.reject(new Error('not now')) : Promise.resolve();
    expect(await retentionOf(scene.database, { observers: [followChanges, refuse] }).round()).to.equal(1);
    expect(await tagsOf(scene.database)).to.deep.equal(['v0', 'v2']);
    expect(await round()).to.equal(1);
  });
});
