import { mkdir, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { expectSameFile, expectSameTree } from './support/bytes.js';
import { writeModels } from './support/models.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('modctl', () => {
  const here = scenario('modctl', ['modctl', 'oras-py']);
  const modctl = (...args: string[]) => {
    const own = ['--storage-dir', here().path('store'), '--log-dir', here().path('logs'), '--no-progress'];
    return here().run('modctl', [...args, ...own]);
  };
  const plain = '--plain-http';

  before(async () => {
    await writeModels(here(), here().path('model'));
    const lines = ['NAME tiny', 'ARCH transformer', 'FAMILY llama', 'FORMAT safetensors', 'PRECISION fp16'];
    lines.push('CONFIG config.json', 'MODEL *.safetensors', 'MODEL *.gguf');
    await writeFile(here().path('model', 'Modelfile'), `${lines.join('\n')}\n`);
  });

  const expectModel = async (folder: string): Promise<void> => {
    for (const file of ['model.safetensors', 'model-f16.gguf', 'config.json']) {
      await expectSameFile(here().path(folder, file), here().path('model', file));
    }
  };
  const build = (target: string, ...more: string[]) =>
    modctl('build', '-t', target, '-f', here().path('model', 'Modelfile'), ...more, here().path('model'));

  it('logs in with the key, and is refused with another', async () => {
    const { user, key, host } = registry();
    const login = (password: string) => ['login', plain, '-u', user, '-p', password, '--password-stdin=false', host];
    expect(await here().refused('modctl', login('not the key'))).to.match(/401|unauthorized/i);
    await modctl(...login(key));
  });

  it('builds a model of safetensors and gguf, pushes, pulls and extracts it', async () => {
    const target = `${here().at('model')}:v1-fp16`;
    await build(target);
    await modctl('push', plain, target);
    await modctl('rm', target);
    await modctl('prune');
    await modctl('pull', plain, target);
    await mkdir(here().path('extracted'));
    await modctl('extract', target, '--output', here().path('extracted'));
    await expectModel('extracted');
  });

  it('writes an artifact of ModelPack, or of its former name', async () => {
    const answer = await ask('GET', `/v2/${here().repository}/model/manifests/v1-fp16`);
    const manifest = (await answer.json()) as { artifactType: string; layers: { mediaType: string }[] };
    expect(manifest.artifactType).to.match(/^application\/vnd\.(cnai|cncf)\.model\.manifest\.v1\+json$/);
    expect(manifest.layers).to.have.length(3);
    expect((await modctl('inspect', '--remote', plain, `${here().at('model')}:v1-fp16`)).stdout).to.contain('tiny');
  });

  it('builds straight into the registry, and pulls straight into a folder', async () => {
    const target = `${here().at('direct')}:v1`;
    await build(target, '--output-remote', plain);
    await modctl('pull', plain, target, '--extract-from-remote', '--extract-dir', here().path('direct'));
    await expectModel('direct');
  });

  it('fetches some files of a model', async () => {
    await mkdir(here().path('some'));
    await modctl(
      'fetch',
      plain,
      `${here().at('model')}:v1-fp16`,
      '--patterns',
      '*.gguf',
      '--output',
      here().path('some'),
    );
    await mkdir(here().path('expected'));
    await here().run('cp', [here().path('model', 'model-f16.gguf'), here().path('expected')]);
    await expectSameTree(here().path('some'), here().path('expected'));
  });

  it('attaches a file and tags', async () => {
    await writeFile(here().path('README.md'), '# tiny\n');
    const target = `${here().at('model')}:v2-fp16`;
    await here().run('modctl', [
      'attach',
      'README.md',
      '-s',
      `${here().at('model')}:v1-fp16`,
      '-t',
      target,
      '--output-remote',
      plain,
    ]);
    await modctl('pull', plain, target, '--extract-from-remote', '--extract-dir', here().path('attached'));
    await expectModel('attached');
    await expectSameFile(here().path('attached', 'README.md'), here().path('README.md'));
    const tagged = `${here().at('copy')}:c1`;
    await modctl('tag', `${here().at('model')}:v1-fp16`, tagged);
    await modctl('push', plain, tagged);
    await modctl('pull', plain, tagged, '--extract-from-remote', '--extract-dir', here().path('copied'));
    await expectModel('copied');
  });

  it('cannot pull what was deleted; the copy stays', async () => {
    const head = await ask('HEAD', `/v2/${here().repository}/model/manifests/v1-fp16`);
    const digest = head.headers.get('docker-content-digest');
    expect((await ask('DELETE', `/v2/${here().repository}/model/manifests/${digest}`)).status).to.equal(202);
    await here().refused('modctl', [
      'pull',
      plain,
      `${here().at('model')}:v1-fp16`,
      '--storage-dir',
      here().path('other'),
    ]);
    await modctl(
      'pull',
      plain,
      `${here().at('copy')}:c1`,
      '--extract-from-remote',
      '--extract-dir',
      here().path('stays'),
    );
    await expectModel('stays');
  });

  it('logs out', async () => {
    await modctl('logout', registry().host);
    await here().refused('modctl', ['pull', plain, `${here().at('copy')}:c1`, '--storage-dir', here().path('nobody')]);
  });
});
