import { expect } from 'chai';
import { isFailure } from '../../../src/errors.js';
import { changeDeployment, createDeployment } from '../../../src/metadata/deployment-changes.js';
import { changeModel, removeModel } from '../../../src/metadata/model-changes.js';
import { changeRelease, removeRelease } from '../../../src/metadata/release-changes.js';
import { listReleases } from '../../../src/metadata/releases.js';
import type { ManifestPush } from '../../../src/registry/manifest-rows.js';
import { CALLER, ModelScene, type Work } from './model-scene.js';

describe('releases of a model', () => {
  let scene: ModelScene;
  beforeEach(async () => {
    scene = await ModelScene.make();
  });
  afterEach(async () => await scene.dispose());

  const idOf = async (tag: string) => (await scene.release(tag))?.id ?? '';
  const fails = async (work: Work<unknown>, failure: Parameters<typeof isFailure>[1]): Promise<void> => {
    const [result] = await Promise.allSettled([scene.run(work)]);
    expect(result).to.have.property('status', 'rejected');
    const { reason } = result as PromiseRejectedResult;
    expect(isFailure(reason, failure), String(reason)).to.equal(true);
  };

  it('keep their digest in an immutable model, whatever is pushed under their tag', async () => {
    const [one, two] = [await scene.image('one'), await scene.image('two')];
    await scene.run(scene.push(one, 'v1'));
    await scene.run((t) => changeModel(t, CALLER, 'crossing', { immutable: true }, 'merge'));
    const note = await scene.image('note', one);
    await fails(scene.push(two, 'v1'), 'ReleaseImmutable');
    await fails(scene.push(note, 'v1'), 'ReleaseImmutable');
    const id = await idOf('v1');
    await fails((t) => changeRelease(t, CALLER, id, { digest: two.digest }, 'merge'), 'Invalid');
    await scene.run(scene.push(two));
    await fails((t) => changeRelease(t, CALLER, id, { digest: two.digest }, 'merge'), 'ReleaseImmutable');
    await scene.run((t) => changeRelease(t, CALLER, id, { status: 'withdrawn' }, 'merge'));
    await fails(scene.push(two, 'v1'), 'ReleaseImmutable');
    await scene.run(scene.push(note, 'signed'));
    expect(await scene.release('v1')).to.include({ id, digest: one.digest });
    expect(await scene.faults()).to.deep.equal([]);
  });

  it('are listed whatever sizes an index states', async () => {
    const one = await scene.image('one');
    const huge = (text: string) => ({ digest: `sha256:${text.repeat(64)}` as typeof one.digest, size: 2 ** 53 - 1 });
    await scene.run(scene.push(scene.index(huge('a'), huge('b')), 'v1'));
    const { items } = await listReleases(
      scene.database,
      CALLER.rights,
      {},
      { limit: 10, cursor: undefined, sort: undefined, total: undefined },
    );
    expect(items.map((release) => release.size_bytes)).to.deep.equal([2 ** 53 - 1]);
  });

  it('have the files of an index, also of what came after it, until it goes', async () => {
    const [one, two] = [await scene.image('one'), await scene.image('two')];
    const part = ({ digest, payload }: ManifestPush) => ({ digest, size: payload.length });
    await scene.run(scene.push(one));
    await scene.run(scene.push(scene.index(part(one), part(two)), 'v1'));
    const early = (await scene.release('v1'))?.size_bytes ?? 0;
    await scene.run(scene.push(two));
    expect(await scene.faults()).to.deep.equal([]);
    expect((await scene.release('v1'))?.size_bytes, 'one layer more').to.equal(early + 3);
    await scene.run(scene.remove(one));
    expect(await scene.faults()).to.deep.equal([]);
  });

  it('keep what an index lists while it is deployed', async () => {
    const one = await scene.image('one');
    await scene.run(scene.push(one));
    const inner = scene.index({ digest: one.digest, size: one.payload.length });
    await scene.run(scene.push(inner));
    await scene.run(scene.push(scene.index({ digest: inner.digest, size: inner.payload.length }), 'v1'));
    const release_id = await idOf('v1');
    await scene.run((t) => createDeployment(t, CALLER, { release_id, environment: 'prod' }));
    await fails(scene.remove(one), 'ReleaseDeployed');
    await fails(scene.remove(inner), 'ReleaseDeployed');
  });

  it('name every deployment that goes with them by force', async () => {
    await scene.run(scene.push(await scene.image('one'), 'v1'));
    const release_id = await idOf('v1');
    for (let nth = 0; nth < 25; nth++)
      await scene.run((t) => createDeployment(t, CALLER, { release_id, environment: `e${nth}` }));
    await scene.run((t) => removeRelease(t, CALLER, release_id, true));
    const [row] = await scene.database.query<{ forced: number }>(
      `select jsonb_array_length(details -> 'forced') as forced from audit_logs where action = 'release.delete'`,
    );
    expect(row?.forced).to.equal(25);
  });

  for (const what of ['release', 'model'])
    it(`leave the deployments that were over in the record when the ${what} goes`, async () => {
      const image = await scene.image('one');
      await scene.run(scene.push(image, 'v1'));
      const release_id = await idOf('v1');
      const over: object[] = [];
      for (const status of ['failed', 'retired'] as const) {
        const environment = `was-${status}`;
        const { id } = await scene.run((t) => createDeployment(t, CALLER, { release_id, environment }));
        await scene.run((t) => changeDeployment(t, CALLER, id, { status }));
        over.push({ id, environment, status, digest: image.digest });
      }
      await scene.run((t) =>
        what === 'release' ? removeRelease(t, CALLER, release_id, false) : removeModel(t, CALLER, 'crossing', false),
      );
      expect(await scene.database.query('select id from deployments')).to.deep.equal([]);
      const rows = await scene.database.query<{ details: Record<string, unknown> }>(
        'select details from audit_logs where action = $1',
        [`${what}.delete`],
      );
      expect(rows.map(({ details }) => details.deployments)).to.deep.equal([over]);
    });
});
