import { expect } from 'chai';
import { expectSameTree, MiB, writeSeeded } from './support/bytes.js';
import { fixture, writeModels } from './support/models.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('oras-py', () => {
  const here = scenario('oras-py', ['oras-py']);

  const python = (verb: string, name: string, args: string[] = [], cwd = here().folder) => {
    const { host, user, key } = registry();
    const all = ['-B', fixture('oras_client.py'), verb, host, user, `${here().repository}/${name}`, ...args];
    return here().run('oras-py', all, { input: key, cwd });
  };

  before(async () => {
    await writeModels(here(), here().path('model'));
    await writeSeeded(here().path('model', 'extra.bin'), 'oras-py', 13 * MiB + 1);
  });

  const files = ['model.safetensors', 'model-f16.gguf', 'config.json', 'extra.bin'];

  it('is refused with a wrong key', async () => {
    const { host, user } = registry();
    const args = ['-B', fixture('oras_client.py'), 'tags', host, user, `${here().repository}/no:v1`];
    const said = await here().refused('oras-py', args, { input: 'not the key' });
    expect(said).to.match(/401|unauthorized|authentication/i);
  });

  it('logs in, pushes and pulls byte for byte', async () => {
    expect((await python('push', 'model:v1', files, here().path('model'))).stdout).to.contain('201');
    await python('pull', 'model:v1', [here().path('pulled')]);
    await expectSameTree(here().path('pulled'), here().path('model'));
  });

  it('pushes in chunks', async () => {
    expect((await python('chunked', 'chunked:v1', files, here().path('model'))).stdout).to.contain('201');
    await python('pull', 'chunked:v1', [here().path('chunked')]);
    await expectSameTree(here().path('chunked'), here().path('model'));
  });

  it('tags, lists, reads a manifest and deletes a tag', async () => {
    for (const tag of ['model:v2', 'model:latest']) await python('push', tag, ['config.json'], here().path('model'));
    expect((await python('tags', 'model')).stdout.trim().split('\n')).to.deep.equal(['latest', 'v1', 'v2']);
    expect((await python('manifest', 'model:v2')).stdout.trim()).to.equal('2');
    await python('delete', 'model:v2');
    expect((await ask('HEAD', `/v2/${here().repository}/model/manifests/v2`)).status).to.equal(404);
    expect((await ask('HEAD', `/v2/${here().repository}/model/manifests/v1`)).status).to.equal(200);
  });
});
