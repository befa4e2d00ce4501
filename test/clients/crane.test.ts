import { mkdir, readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { expectSameFile, expectSameTree, MiB, writeSeeded } from './support/bytes.js';
import { type Layout, writeLayout } from './support/image.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('crane', () => {
  const here = scenario('crane', ['crane', 'busybox']);
  const crane = (...args: string[]) => here().run('crane', args);
  let layout: Layout;

  before(async () => {
    layout = await writeLayout(here().path('layout'), 'crane', 32 * MiB + 7);
  });

  it('logs in with the key, and is refused with another', async () => {
    const { user, key, host } = registry();
    await crane('auth', 'login', host, '-u', user, '-p', 'not the key');
    expect(await here().refused('crane', ['catalog', host])).to.match(/401|unauthorized/i);
    await crane('auth', 'login', host, '-u', user, '-p', key);
    await crane('catalog', host);
  });

  it('pushes a layout and pulls it byte for byte', async () => {
    const image = `${here().at('image')}:v1`;
    await crane('push', layout.folder, image, '--image-refs', here().path('refs'));
    expect((await readFile(here().path('refs'), 'utf8')).trim()).to.equal(`${here().at('image')}@${layout.digest}`);
    await crane('pull', '--format=oci', image, here().path('pulled'));
    await expectSameTree(here().path('pulled', 'blobs'), here().path('layout', 'blobs'));
  });

  it('validates, and tells digest, manifest and config', async () => {
    const image = `${here().at('image')}:v1`;
    await crane('validate', '--remote', image);
    expect((await crane('digest', image)).stdout.trim()).to.equal(layout.digest);
    expect((await crane('manifest', image)).stdout.trim()).to.equal(layout.manifest);
    const { config } = JSON.parse(layout.manifest);
    const text = await readFile(here().path('layout', 'blobs', 'sha256', config.digest.slice(7)), 'utf8');
    expect((await crane('config', image)).stdout.trim()).to.equal(text);
  });

  it('reads a blob, exports the file system', async () => {
    const { layers } = JSON.parse(layout.manifest);
    const { stdout } = await crane('blob', `${here().at('image')}@${layers[0].digest}`);
    expect(stdout.length).to.be.greaterThan(0);
    await crane('export', `${here().at('image')}:v1`, here().path('export.tar'));
    await mkdir(here().path('export'));
    await here().run('tar', ['-xf', 'export.tar', '-C', 'export', 'weights.bin']);
    const expected = await writeSeeded(here().path('weights.bin'), 'crane', 32 * MiB + 7);
    await expectSameFile(here().path('export', 'weights.bin'), expected);
  });

  it('tags, lists tags and the catalog', async () => {
    const image = here().at('image');
    for (const tag of ['latest', 'V2', 'v10', '_x', 'a.b-c']) await crane('tag', `${image}:v1`, tag);
    // Byte order: capitals before small letters, and `_` between them.
    const listed = (await crane('ls', image)).stdout.trim().split('\n');
    expect(listed).to.deep.equal(['V2', '_x', 'a.b-c', 'latest', 'v1', 'v10']);
    expect((await crane('catalog', registry().host)).stdout.split('\n')).to.contain(`${here().repository}/image`);
  });

  it('copies between repositories, all tags at once too', async () => {
    await crane('copy', `${here().at('image')}:v1`, `${here().at('copy')}:c1`);
    expect((await crane('digest', `${here().at('copy')}:c1`)).stdout.trim()).to.equal(layout.digest);
    await crane('copy', '--all-tags', here().at('image'), here().at('all'));
    expect((await crane('ls', here().at('all'))).stdout.trim().split('\n')).to.have.length(6);
    await crane('validate', '--remote', `${here().at('all')}:latest`);
  });

  it('appends layers, mutates and flattens', async () => {
    await writeSeeded(here().path('more', 'adapter.bin'), 'crane-adapter', 9 * MiB);
    await here().run('tar', ['-cf', 'adapter.tar', '-C', 'more', 'adapter.bin']);
    const longer = `${here().at('image')}:longer`;
    await crane('append', '-b', `${here().at('image')}:v1`, '-f', here().path('adapter.tar'), '-t', longer);
    await crane('validate', '--remote', longer);
    await crane('append', '--oci-empty-base', '-f', here().path('adapter.tar'), '-t', `${here().at('scratch')}:v1`);
    await crane('validate', '--remote', `${here().at('scratch')}:v1`);
    const said = ['-l', 'org.example.quantization=fp16', '-a', 'org.example.note=x'];
    await crane('mutate', longer, ...said, '-t', `${here().at('image')}:labelled`);
    const config = JSON.parse((await crane('config', `${here().at('image')}:labelled`)).stdout);
    expect(config.config.Labels).to.deep.equal({ 'org.example.quantization': 'fp16' });
    await crane('flatten', longer, '-t', `${here().at('image')}:flat`);
    expect(JSON.parse((await crane('manifest', `${here().at('image')}:flat`)).stdout).layers).to.have.length(1);
  });

  it('makes an index, lists, filters and pulls it', async () => {
    const image = here().at('image');
    await crane('mutate', `${image}:v1`, '--set-platform', 'linux/arm64', '-t', `${image}:arm64`);
    await crane('index', 'append', '-m', `${image}:v1`, '-m', `${image}:arm64`, '-t', `${image}:multi`);
    const { stdout } = await crane('index', 'list', `${image}:multi`);
    for (const platform of ['linux/amd64', 'linux/arm64']) expect(stdout).to.contain(platform);
    await crane('index', 'filter', `${image}:multi`, '--platform', 'linux/arm64', '-t', `${image}:filtered`);
    await crane('validate', '--remote', `${image}:multi`);
    await crane('pull', '--format=oci', `${image}:multi`, here().path('index-pulled'));
    await crane('push', '--index', here().path('index-pulled'), `${here().at('again')}:multi`);
  });

  it('pulls a tarball and pushes it, in the Docker schema', async () => {
    await crane('pull', '--format=tarball', `${here().at('image')}:v1`, here().path('image.tar'));
    await crane('push', here().path('image.tar'), `${here().at('docker')}:v1`);
    await crane('validate', '--remote', `${here().at('docker')}:v1`);
    const manifest = JSON.parse((await crane('manifest', `${here().at('docker')}:v1`)).stdout);
    expect(manifest.mediaType).to.equal('application/vnd.docker.distribution.manifest.v2+json');
  });

  it('deletes by digest, and the copy stays', async () => {
    await crane('delete', `${here().at('image')}@${layout.digest}`);
    expect((await ask('HEAD', `/v2/${here().repository}/image/manifests/v1`)).status).to.equal(404);
    await here().refused('crane', ['digest', `${here().at('image')}:latest`]);
    await crane('validate', '--remote', `${here().at('copy')}:c1`);
  });
});
