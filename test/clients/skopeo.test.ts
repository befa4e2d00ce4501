import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { expectSameFile, expectSameTree, MiB, writeSeeded } from './support/bytes.js';
import { type Layout, writeLayout } from './support/image.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('skopeo', () => {
  const here = scenario('skopeo', ['skopeo', 'busybox']);
  // The machine's policy may forbid what a test may do.
  const skopeo = (...args: string[]) => here().run('skopeo', ['--policy', here().path('policy.json'), ...args]);
  const to = '--dest-tls-verify=false';
  const from = '--src-tls-verify=false';
  let layout: Layout;

  before(async () => {
    await writeFile(here().path('policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
    layout = await writeLayout(here().path('layout'), 'skopeo', 24 * MiB + 5, false);
  });

  const remote = (name: string): string => `docker://${here().at(name)}`;
  const digestAt = async (name: string): Promise<string> =>
    (await skopeo('inspect', '--tls-verify=false', '--format', '{{.Digest}}', remote(name))).stdout.trim();

  it('logs in with the key, and is refused with another', async () => {
    const { user, key, host } = registry();
    const login = ['login', '--tls-verify=false', host, '-u', user, '--password-stdin'];
    expect(await here().refused('skopeo', login, { input: 'not the key' })).to.match(/invalid username|unauthorized/i);
    await here().run('skopeo', login, { input: key });
  });

  // First, for later skopeo knows of the same layer, uncompressed, and mounts that.
  it('compresses while it pushes: a stream whose length and digest come last', async () => {
    await skopeo('copy', to, `oci:${layout.folder}:v1`, remote('gzip:v1'));
    await skopeo('copy', from, remote('gzip:v1'), `dir:${here().path('gzip')}`);
    const manifest = JSON.parse(await readFile(here().path('gzip', 'manifest.json'), 'utf8'));
    await mkdir(here().path('unpacked'));
    const weights = here().path('gzip', manifest.layers[1].digest.slice('sha256:'.length));
    await here().run('tar', ['-xzf', weights, '-C', here().path('unpacked')]);
    const expected = await writeSeeded(here().path('weights.bin'), 'skopeo', 24 * MiB + 5);
    await expectSameFile(here().path('unpacked', 'weights.bin'), expected);
  });

  it('copies an OCI layout in, as it is, and out byte for byte', async () => {
    await skopeo('copy', '--preserve-digests', to, `oci:${layout.folder}:v1`, remote('image:v1'));
    expect(await digestAt('image:v1')).to.equal(layout.digest);
    const out = `oci:${here().path('pulled')}:v1`;
    await skopeo('copy', from, '--preserve-digests', '--dest-oci-accept-uncompressed-layers', remote('image:v1'), out);
    await expectSameTree(here().path('pulled', 'blobs'), here().path('layout', 'blobs'));
  });

  it('copies a folder and a docker archive in and out, in both schemas', async () => {
    await skopeo('copy', from, remote('image:v1'), `dir:${here().path('dir')}`);
    await skopeo('copy', to, '--preserve-digests', `dir:${here().path('dir')}`, remote('dir:v1'));
    expect(await digestAt('dir:v1')).to.equal(layout.digest);
    const archive = `docker-archive:${here().path('image.tar')}`;
    await skopeo('copy', from, remote('image:v1'), `${archive}:model:v1`);
    await skopeo('copy', to, '--format', 'v2s2', `${archive}:model:v1`, remote('archive:v1'));
    const raw = JSON.parse((await skopeo('inspect', '--tls-verify=false', '--raw', remote('archive:v1'))).stdout);
    expect(raw.mediaType).to.equal('application/vnd.docker.distribution.manifest.v2+json');
    await skopeo('copy', from, remote('archive:v1'), `dir:${here().path('archive')}`);
  });

  it('is told clearly that schema 1 is not taken', async () => {
    const args = ['copy', to, '--format', 'v2s1', `oci:${layout.folder}:v1`, remote('old:v1')];
    const said = await here().refused('skopeo', ['--policy', here().path('policy.json'), ...args]);
    expect(said).to.match(/schema|manifest invalid|unsupported/i);
  });

  it('inspects image, config and raw manifest', async () => {
    const inspect = async (...args: string[]) => (await skopeo('inspect', '--tls-verify=false', ...args)).stdout;
    expect(await inspect('--raw', remote('image:v1'))).to.equal(layout.manifest);
    expect(JSON.parse(await inspect(remote('image:v1')))).to.include({ Digest: layout.digest, Os: 'linux' });
    expect(JSON.parse(await inspect('--config', remote('image:v1'))).rootfs.diff_ids).to.have.length(2);
    expect(JSON.parse(await inspect(`docker://${here().at('image')}@${layout.digest}`)).Digest).to.equal(layout.digest);
  });

  it('copies between repositories, tags and lists tags', async () => {
    await skopeo('copy', from, to, '--preserve-digests', remote('image:v1'), remote('copy:c1'));
    await skopeo('copy', from, to, '--preserve-digests', remote('image:v1'), remote('image:latest'));
    expect(await digestAt('copy:c1')).to.equal(layout.digest);
    const { stdout } = await skopeo('list-tags', '--tls-verify=false', remote('image'));
    expect(JSON.parse(stdout).Tags).to.deep.equal(['latest', 'v1']);
  });

  it('synchronises a repository to a folder and back to another', async () => {
    const folder = here().path('sync');
    await mkdir(folder);
    await skopeo('sync', '--src', 'docker', '--dest', 'dir', from, here().at('image'), folder);
    const target = here().at('synced');
    await skopeo('sync', '--src', 'dir', '--dest', 'docker', to, '--preserve-digests', folder, target);
    const { stdout } = await skopeo('list-tags', '--tls-verify=false', `docker://${target}/image`);
    expect(JSON.parse(stdout).Tags).to.deep.equal(['latest', 'v1']);
    await skopeo('sync', '--src', 'docker', '--dest', 'docker', from, to, here().at('image'), here().at('direct'));
    expect(await digestAt('direct/image:v1')).to.equal(layout.digest);
  });

  it('copies an index with all its images', async () => {
    const index = {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: ['amd64', 'arm64'].map((architecture) => ({
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        digest: layout.digest,
        size: layout.manifest.length,
        platform: { os: 'linux', architecture },
      })),
    };
    await mkdir(here().path('index'));
    await here().run('cp', ['-r', `${here().path('dir')}/.`, here().path('index')]);
    const plain = layout.digest.slice('sha256:'.length);
    await writeFile(here().path('index', `${plain}.manifest.json`), layout.manifest);
    await writeFile(here().path('index', 'manifest.json'), JSON.stringify(index));
    await skopeo('copy', '--all', to, '--preserve-digests', `dir:${here().path('index')}`, remote('multi:v1'));
    await skopeo('copy', '--all', from, to, remote('multi:v1'), remote('multi-copy:v1'));
    const { stdout } = await skopeo('inspect', '--tls-verify=false', '--raw', remote('multi-copy:v1'));
    expect(JSON.parse(stdout)).to.deep.equal(index);
  });

  it('deletes an image: its tags are gone, the copy stays', async () => {
    await skopeo('delete', '--tls-verify=false', remote('image:v1'));
    expect((await ask('HEAD', `/v2/${here().repository}/image/manifests/latest`)).status).to.equal(404);
    expect(await digestAt('copy:c1')).to.equal(layout.digest);
  });

  it('logs out', async () => {
    await skopeo('logout', registry().host);
    await here().refused('skopeo', ['list-tags', '--tls-verify=false', remote('copy')]);
  });
});
