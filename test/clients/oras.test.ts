import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { digestOf, expectSameFile, expectSameTree, MiB, writeSeeded } from './support/bytes.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

const plain = '--plain-http';
const type = 'application/vnd.example.weights';

describe('oras', () => {
  const here = scenario('oras', ['oras']);
  const oras = (...args: string[]) => here().run('oras', args);

  before(async () => {
    const { path } = here();
    const from = path.bind(here());
    await writeSeeded(from('model', 'model-00001-of-00002.safetensors'), 'oras-1', 40 * MiB);
    await writeSeeded(from('model', 'model-00002-of-00002.safetensors'), 'oras-2', 24 * MiB + 12_345);
    await writeSeeded(from('model', 'tokenizer', 'vocab.txt'), 'oras-3', 5000);
    await writeFile(from('model', 'config.json'), '{"model_type":"example"}');
    await writeFile(from('model', 'empty'), '');
  });

  it('logs in with the key, and is refused with another', async () => {
    const { user, key, host } = registry();
    const login = ['login', plain, host, '-u', user, '--password-stdin'];
    expect(await here().refused('oras', login, { input: 'not the key' })).to.match(/401|unauthorized/i);
    expect(await here().refused('oras', ['repo', 'ls', plain, host])).to.match(/401|unauthorized|basic credential/i);
    await here().run('oras', login, { input: key });
  });

  it('pushes a folder with several files and pulls it byte for byte', async () => {
    const reference = `${here().at('llama')}:v1.0-fp16`;
    const files = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', 'config.json', 'empty'];
    const args = ['push', plain, reference, '--artifact-type', type, ...files, 'tokenizer/'];
    await here().run('oras', args, { cwd: here().path('model') });
    await oras('pull', plain, reference, '-o', here().path('pulled'));
    await expectSameTree(here().path('pulled'), here().path('model'));
  });

  it('pushes again without sending anything, and with concurrency', async () => {
    const args = ['push', plain, `${here().at('llama')}:again`, '--concurrency', '5', '--format', 'json', '.'];
    await here().run('oras', args, { cwd: here().path('model') });
    await here().run('oras', args, { cwd: here().path('model') });
  });

  it('tags, resolves, lists tags and repositories', async () => {
    const name = here().at('llama');
    const digest = (await oras('resolve', plain, `${name}:v1.0-fp16`)).stdout.trim();
    expect(digest).to.match(/^sha256:[0-9a-f]{64}$/);
    await oras('tag', plain, `${name}:v1.0-fp16`, 'latest', 'v1.0');
    expect((await oras('resolve', plain, `${name}:latest`)).stdout.trim()).to.equal(digest);
    expect((await oras('repo', 'tags', plain, name)).stdout.trim().split('\n')).to.deep.equal(
      ['again', 'latest', 'v1.0', 'v1.0-fp16'].sort(),
    );
    expect((await oras('repo', 'ls', plain, registry().host)).stdout).to.contain(`${here().repository}/llama`);
  });

  it('pushes, fetches and deletes single blobs', async () => {
    const name = here().at('blobs');
    const file = await writeSeeded(here().path('blob.bin'), 'oras-blob', 33 * MiB + 1);
    const digest = await digestOf(file);
    await oras('blob', 'push', plain, name, file);
    await oras('blob', 'fetch', plain, `${name}@${digest}`, '-o', here().path('fetched.bin'));
    await expectSameFile(here().path('fetched.bin'), file);
    const described = await oras('blob', 'fetch', plain, `${name}@${digest}`, '--descriptor');
    expect(JSON.parse(described.stdout)).to.include({ digest, size: 33 * MiB + 1 });
    await oras('blob', 'delete', plain, '--force', `${name}@${digest}`);
    await here().refused('oras', ['blob', 'fetch', plain, `${name}@${digest}`, '-o', here().path('gone')]);
  });

  it('pushes and fetches a blob by sha512', async () => {
    const file = await writeSeeded(here().path('strong.bin'), 'oras-strong', 9 * MiB);
    const name = `${here().at('blobs')}@${await digestOf(file, 'sha512')}`;
    await oras('blob', 'push', plain, name, file);
    await oras('blob', 'fetch', plain, name, '-o', here().path('strong-fetched.bin'));
    await expectSameFile(here().path('strong-fetched.bin'), file);
  });

  it('refuses a blob under a digest that is not its own', async () => {
    const wrong = `sha256:${'0'.repeat(64)}`;
    const args = ['blob', 'push', plain, `${here().at('blobs')}@${wrong}`, 'model/config.json', '--size', '24'];
    expect(await here().refused('oras', args)).to.match(/digest/i);
  });

  it('fetches, pushes and deletes manifests', async () => {
    const name = here().at('llama');
    const { stdout } = await oras('manifest', 'fetch', plain, `${name}:latest`);
    await writeFile(here().path('manifest.json'), stdout.replace('"schemaVersion":2', '"schemaVersion": 2'));
    await oras('manifest', 'push', plain, `${name}:spaced`, here().path('manifest.json'));
    const again = await oras('manifest', 'fetch', plain, `${name}:spaced`);
    expect(again.stdout).to.equal(await readFile(here().path('manifest.json'), 'utf8'));
    const digest = (await oras('resolve', plain, `${name}:spaced`)).stdout.trim();
    await oras('manifest', 'delete', plain, '--force', `${name}@${digest}`);
    expect((await ask('HEAD', `/v2/${here().repository}/llama/manifests/spaced`)).status).to.equal(404);
    expect((await oras('repo', 'tags', plain, name)).stdout.split('\n')).not.to.contain('spaced');
  });

  it('attaches to a model, discovers by type and pulls what was attached', async () => {
    const subject = `${here().at('llama')}:latest`;
    await mkdir(here().path('card'));
    await writeFile(here().path('card', 'README.md'), '# A model\n');
    await writeFile(here().path('card', 'scan.json'), '{"clean":true}');
    const attach = (artifactType: string, file: string) =>
      here().run('oras', ['attach', plain, subject, '--artifact-type', artifactType, file, '--format', 'json'], {
        cwd: here().path('card'),
      });
    const card = JSON.parse((await attach('application/vnd.example.card', 'README.md:text/markdown')).stdout);
    await attach('application/vnd.example.scan', 'scan.json:application/json');

    const discover = async (...more: string[]): Promise<{ digest: string; artifactType: string }[]> =>
      JSON.parse((await oras('discover', plain, subject, '--format', 'json', ...more)).stdout).referrers;
    expect((await discover()).map((one) => one.artifactType).sort()).to.deep.equal([
      'application/vnd.example.card',
      'application/vnd.example.scan',
    ]);
    const cards = await discover('--artifact-type', 'application/vnd.example.card');
    expect(cards.map((one) => one.digest)).to.deep.equal([card.digest]);
    await oras('pull', plain, `${here().at('llama')}@${card.digest}`, '-o', here().path('card-pulled'));
    await expectSameFile(here().path('card-pulled', 'README.md'), here().path('card', 'README.md'));
    const tags = (await oras('repo', 'tags', plain, here().at('llama'))).stdout;
    expect(tags, 'the referrers tag of a registry without the API').not.to.contain('sha256-');
  });

  it('copies a model with everything attached to it to another repository, and to a layout and back', async () => {
    await oras(
      'cp',
      '-r',
      '--from-plain-http',
      '--to-plain-http',
      `${here().at('llama')}:latest`,
      `${here().at('copy')}:c1`,
    );
    const copied = await oras('discover', plain, `${here().at('copy')}:c1`, '--format', 'json');
    expect(JSON.parse(copied.stdout).referrers).to.have.length(2);
    await oras('pull', plain, `${here().at('copy')}:c1`, '-o', here().path('copy-pulled'));
    await expectSameTree(here().path('copy-pulled'), here().path('model'));

    const layout = here().path('layout');
    await oras('cp', '-r', '--from-plain-http', '--to-oci-layout', `${here().at('llama')}:latest`, `${layout}:latest`);
    await oras('cp', '-r', '--from-oci-layout', '--to-plain-http', `${layout}:latest`, `${here().at('back')}:latest`);
    const digests = await Promise.all(
      ['llama', 'copy', 'back'].map((name) =>
        oras('resolve', plain, `${here().at(name)}:${name === 'copy' ? 'c1' : 'latest'}`),
      ),
    );
    expect(new Set(digests.map(({ stdout }) => stdout)).size).to.equal(1);
  });

  it('makes and updates an index over two quantizations', async () => {
    const name = here().at('quantized');
    for (const quantization of ['q4_k_m', 'q8_0']) {
      await writeSeeded(here().path('gguf', `${quantization}.gguf`), quantization, 2 * MiB);
      await here().run('oras', ['push', plain, `${name}:v1-${quantization}`, `${quantization}.gguf`], {
        cwd: here().path('gguf'),
      });
    }
    await oras('manifest', 'index', 'create', plain, `${name}:v1`, 'v1-q4_k_m');
    await oras('manifest', 'index', 'update', plain, `${name}:v1`, '--add', 'v1-q8_0');
    const index = JSON.parse((await oras('manifest', 'fetch', plain, `${name}:v1`)).stdout);
    expect(index.manifests).to.have.length(2);
  });

  it('deletes a model: its tags go with it, and a copy elsewhere stays', async () => {
    await oras('manifest', 'delete', plain, '--force', `${here().at('llama')}:v1.0-fp16`);
    await here().refused('oras', ['pull', plain, `${here().at('llama')}:latest`, '-o', here().path('nothing')]);
    await oras('pull', plain, `${here().at('copy')}:c1`, '-o', here().path('copy-stays'));
    await expectSameTree(here().path('copy-stays'), here().path('model'));
  });

  it('logs out', async () => {
    await oras('logout', registry().host);
    await here().refused('oras', ['repo', 'tags', plain, here().at('copy')]);
  });
});
