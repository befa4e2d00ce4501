import { expect } from 'chai';
import { isFailure } from '../../../src/errors.js';
import { putAlias } from '../../../src/metadata/aliases.js';
import { changeDeployment, createDeployment } from '../../../src/metadata/deployment-changes.js';
import { changeModel, removeModel } from '../../../src/metadata/model-changes.js';
import { changeRelease, createRelease, removeRelease } from '../../../src/metadata/release-changes.js';
import { CALLER, ModelScene, type Work } from './model-scene.js';

describe('two changes of a model at once', () => {
  let scene: ModelScene;
  beforeEach(async () => {
    scene = await ModelScene.make();
  });
  afterEach(async () => await scene.dispose());

  const idOf = async (tag: string) => (await scene.release(tag))?.id ?? '';
  const deploy =
    (id: string): Work<unknown> =>
    (t) =>
      createDeployment(t, CALLER, { release_id: id, environment: 'prod' });
  const moveAway: Work<unknown> = (t) =>
    changeModel(t, CALLER, 'crossing', { storage_path: 'crossing/elsewhere' }, 'merge');

  function expectFailure(result: PromiseSettledResult<unknown>, failure: Parameters<typeof isFailure>[1]): void {
    expect(result.status).to.equal('rejected');
    const { reason } = result as PromiseRejectedResult;
    expect(isFailure(reason, failure), String(reason)).to.equal(true);
  }

  it('leave a model in the repository into which a release of it is being pushed', async () => {
    const image = await scene.image('a');
    expectFailure(await scene.cross(scene.push(image, 'v1'), moveAway), 'Conflict');
    expect(await scene.faults()).to.deep.equal([]);
  });

  it('make no release, alias or model less by where a model was', async () => {
    const image = await scene.image('a');
    await scene.run(scene.push(image));
    const late: Work<unknown>[] = [
      (t) => createRelease(t, CALLER, 'crossing', { tag: 'v1', digest: image.digest }),
      (t) => putAlias(t, CALLER, 'crossing', 'prod', { digest: image.digest }),
      (t) => removeModel(t, CALLER, 'crossing', false),
    ];
    let to = 'elsewhere';
    for (const work of late) {
      const move: Work<unknown> = (t) =>
        changeModel(t, CALLER, 'crossing', { storage_path: `crossing/${to}` }, 'merge');
      expectFailure(await scene.cross(move, work), 'Conflict');
      to = 'model';
      await scene.run(move);
      to = 'elsewhere';
    }
    expect(await scene.faults()).to.deep.equal([]);
  });

  it('attach nothing to a release that is being moved away', async () => {
    const [one, two] = [await scene.image('one'), await scene.image('two')];
    await scene.run(scene.push(one, 'v1'));
    const note = await scene.image('note', one);
    await scene.cross(scene.push(note), scene.push(two, 'v1'));
    expect(await scene.faults()).to.deep.equal([]);
  });

  it('attach a file to a release that is just becoming what it refers to', async () => {
    const [one, two] = [await scene.image('one'), await scene.image('two')];
    await scene.run(scene.push(one, 'v1'));
    await scene.run(scene.push(two));
    const note = await scene.image('note', two);
    await scene.cross(scene.push(two, 'v1'), scene.push(note));
    expect(await scene.faults()).to.deep.equal([]);
    const other = await scene.image('other note', one);
    await scene.cross(scene.push(other), scene.push(one, 'v1'));
    expect(await scene.faults()).to.deep.equal([]);
  });

  it('leave nothing attached of a referrer that is being removed', async () => {
    const [one, two] = [await scene.image('one'), await scene.image('two')];
    await scene.run(scene.push(one, 'v1'));
    await scene.run(scene.push(two));
    const note = await scene.image('note', two);
    await scene.run(scene.push(note));
    await scene.cross(scene.remove(note), scene.push(two, 'v1'));
    expect(await scene.faults()).to.deep.equal([]);
  });

  it('keep a manifest that is just being deployed, also if another spelling would inherit its release', async () => {
    const [one, two] = [await scene.image('one'), await scene.image('two')];
    await scene.run(scene.push(two, 'V1_FP16'));
    await scene.run(scene.push(one, 'v1-fp16'));
    const id = await idOf('v1-fp16');
    expectFailure(await scene.cross(deploy(id), scene.remove(one)), 'ReleaseDeployed');
    expect(await scene.faults()).to.deep.equal([]);
  });

  it('deploy what a release is by the time that its manifest is gone', async () => {
    const [one, two] = [await scene.image('one'), await scene.image('two')];
    await scene.run(scene.push(two, 'V1_FP16'));
    await scene.run(scene.push(one, 'v1-fp16'));
    const result = await scene.cross(scene.remove(one), deploy(await idOf('v1-fp16')));
    expect(result).to.have.nested.property('value.digest', two.digest);
    expect(await scene.faults()).to.deep.equal([]);
  });

  it('deploy nothing that is being removed', async () => {
    const one = await scene.image('one');
    await scene.run(scene.push(one, 'v1'));
    const id = await idOf('v1');
    expectFailure(await scene.cross((t) => removeRelease(t, CALLER, id, false), deploy(id)), 'Invalid');
    await scene.run(scene.push(one, 'v1'));
    const next = await idOf('v1');
    expectFailure(await scene.cross(deploy(next), (t) => removeRelease(t, CALLER, next, false)), 'Conflict');
  });

  it('let one deployment be active, and count the other as superseded', async () => {
    await scene.run(scene.push(await scene.image('one'), 'v1'));
    const id = await idOf('v1');
    expect((await scene.cross(deploy(id), deploy(id))).status).to.equal('fulfilled');
    const rows = await scene.database.query<{ status: string }>('select status from deployments order by created_at');
    expect(rows.map((row) => row.status).sort()).to.deep.equal(['active', 'superseded']);
  });

  it('refuse a draft the name of what is just being pushed', async () => {
    const draft = await scene.run((t) => createRelease(t, CALLER, 'crossing', { tag: 'v1' }));
    const rename: Work<unknown> = (t) => changeRelease(t, CALLER, draft.id, { tag: 'v2', version: 'v2' }, 'merge');
    expectFailure(await scene.cross(scene.push(await scene.image('two'), 'v2'), rename), 'Conflict');
  });

  it('refuse a failed deployment to wait again for what is gone', async () => {
    const one = await scene.image('one');
    await scene.run(scene.push(one, 'v1'));
    const id = await idOf('v1');
    const made = await scene.run((t) => createDeployment(t, CALLER, { release_id: id, environment: 'prod' }));
    await scene.run((t) => changeDeployment(t, CALLER, made.id, { status: 'failed' }));
    await scene.run(scene.remove(one));
    const again = await Promise.allSettled([
      scene.run((t) => changeDeployment(t, CALLER, made.id, { status: 'pending' })),
    ]);
    expectFailure(again[0], 'Conflict');
    expect(await scene.faults()).to.deep.equal([]);
  });
});
