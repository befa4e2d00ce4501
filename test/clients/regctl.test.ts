import { readFile, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { digestOf, expectSameFile, expectSameTree, MiB, writeSeeded } from './support/bytes.js';
import { type Layout, writeLayout } from './support/image.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('regctl', () => {
  const here = scenario('regctl', ['regctl', 'busybox']);
  const regctl = (...args: string[]) => here().run('regctl', args);
  let layout: Layout;

  before(async () => {
    layout = await writeLayout(here().path('layout'), 'regctl', 20 * MiB + 11);
  });

  it('logs in with the key, and is refused with another', async () => {
    const { user, key, host } = registry();
    // Small chunks, so that a file of some MiB is sent by many PATCHes.
    const chunked = ['--blob-chunk', String(MiB), '--blob-max', String(2 * MiB)];
    await regctl('registry', 'set', '--tls=disabled', '--skip-check', ...chunked, host);
    const login = ['registry', 'login', host, '-u', user, '--pass-stdin'];
    expect(await here().refused('regctl', login, { input: 'not the key' })).to.match(/401|unauthorized/i);
    await here().run('regctl', login, { input: key });
  });

  it('copies a layout in and out, byte for byte, in chunks', async () => {
    const image = `${here().at('image')}:v1`;
    await regctl('image', 'copy', `ocidir://${layout.folder}:v1`, image);
    await regctl('image', 'copy', image, `ocidir://${here().path('pulled')}:v1`);
    await expectSameTree(here().path('pulled', 'blobs'), here().path('layout', 'blobs'));
    expect((await regctl('image', 'digest', image)).stdout.trim()).to.equal(layout.digest);
  });

  it('exports and imports', async () => {
    await regctl('image', 'export', `${here().at('image')}:v1`, here().path('image.tar'));
    await regctl('image', 'import', `${here().at('imported')}:v1`, here().path('image.tar'));
    const digest = (await regctl('image', 'digest', `${here().at('imported')}:v1`)).stdout.trim();
    expect(digest).to.equal(layout.digest);
  });

  for (const algorithm of ['sha256', 'sha512'] as const) {
    it(`puts, heads, gets and deletes a blob by ${algorithm}`, async () => {
      const name = here().at('blobs');
      const file = await writeSeeded(here().path(`blob-${algorithm}`), algorithm, 11 * MiB + 3);
      const digest = await digestOf(file, algorithm);
      const put = await here().run('regctl', ['blob', 'put', '--digest', digest, name], {
        input: await readFile(file),
      });
      expect(put.stdout.trim()).to.equal(digest);
      await regctl('blob', 'head', name, digest);
      const got = here().path(`got-${algorithm}`);
      await here().run('sh', ['-c', 'regctl blob get "$1" "$2" > "$3"', 'sh', name, digest, got]);
      await expectSameFile(got, file);
      await regctl('blob', 'delete', name, digest);
      await here().refused('regctl', ['blob', 'head', name, digest]);
    });
  }

  it('copies a blob between repositories', async () => {
    const { layers } = JSON.parse(layout.manifest);
    await regctl('blob', 'copy', here().at('image'), here().at('blobs'), layers[1].digest);
    await regctl('blob', 'head', here().at('blobs'), layers[1].digest);
  });

  it('turns an image into sha512, with a tag beside the digest', async () => {
    await regctl(
      'image',
      'mod',
      `${here().at('image')}:v1`,
      '--digest-algo',
      'sha512',
      '--create',
      `${here().at('image')}:strong`,
    );
    const digest = (await regctl('manifest', 'head', `${here().at('image')}:strong`)).stdout.trim();
    expect(digest).to.match(/^sha512:[0-9a-f]{128}$/);
    const manifest = JSON.parse(
      (await regctl('manifest', 'get', '--format', 'raw-body', `${here().at('image')}:strong`)).stdout,
    );
    expect(manifest.config.digest).to.match(/^sha512:/);
    await regctl('image', 'copy', `${here().at('image')}:strong`, `ocidir://${here().path('strong')}:v1`);
    await regctl('image', 'copy', `${here().at('image')}:strong`, `${here().at('strong')}:v1`);
    expect((await regctl('manifest', 'head', `${here().at('strong')}:v1`)).stdout.trim()).to.equal(digest);
  });

  it('puts artifacts, with a subject too, and lists and copies them with it', async () => {
    const image = `${here().at('image')}:v1`;
    const put = (type: string, ...more: string[]) =>
      here().run('regctl', ['artifact', 'put', '--artifact-type', type, ...more], { input: `{"of":"${type}"}` });
    await put('application/vnd.example.sbom', '--subject', image);
    await put('application/vnd.example.scan', '--subject', image, '--annotation', 'org.example.clean=true');
    await put('application/vnd.example.lone', `${here().at('artifact')}:v1`);
    expect((await regctl('artifact', 'get', `${here().at('artifact')}:v1`)).stdout).to.equal(
      '{"of":"application/vnd.example.lone"}',
    );
    const list = async (name: string, ...more: string[]): Promise<{ artifactType: string }[]> =>
      JSON.parse((await regctl('artifact', 'list', name, '--format', '{{json .Descriptors}}', ...more)).stdout);
    expect(await list(image)).to.have.length(2);
    const scans = await list(image, '--filter-artifact-type', 'application/vnd.example.scan');
    expect(scans.map((one) => one.artifactType)).to.deep.equal(['application/vnd.example.scan']);
    expect(
      (await regctl('artifact', 'get', '--subject', image, '--filter-artifact-type', 'application/vnd.example.sbom'))
        .stdout,
    ).to.equal('{"of":"application/vnd.example.sbom"}');
    expect((await regctl('artifact', 'tree', image)).stdout).to.contain('application/vnd.example.sbom');

    await regctl('image', 'copy', '--referrers', image, `${here().at('copy')}:c1`);
    expect(await list(`${here().at('copy')}:c1`)).to.have.length(2);
    await regctl('image', 'copy', '--referrers', '--digest-tags', image, `ocidir://${here().path('with')}:v1`);
    expect(await list(`ocidir://${here().path('with')}:v1`)).to.have.length(2);
  });

  it('makes an index, adds to it and takes from it', async () => {
    const name = here().at('image');
    await regctl('index', 'create', `${name}:multi`, '--ref', `${name}:v1`, '--desc-platform', 'linux/amd64');
    await regctl('index', 'add', `${name}:multi`, '--ref', `${name}:strong`, '--desc-platform', 'linux/arm64');
    const index = async (): Promise<{ manifests: { digest: string }[] }> =>
      JSON.parse((await regctl('manifest', 'get', '--format', 'raw-body', `${name}:multi`)).stdout);
    expect((await index()).manifests).to.have.length(2);
    await regctl('index', 'delete', `${name}:multi`, '--digest', layout.digest);
    expect((await index()).manifests).to.have.length(1);
  });

  it('puts and compares manifests by digest', async () => {
    const name = here().at('image');
    const spaced = layout.manifest.replace('"schemaVersion":2', '"schemaVersion":  2');
    await writeFile(here().path('spaced.json'), spaced);
    const put = ['manifest', 'put', '--by-digest', '--content-type', JSON.parse(spaced).mediaType, name];
    await here().run('regctl', put, { input: spaced });
    const digest = await digestOf(here().path('spaced.json'));
    const got = await regctl('manifest', 'get', '--format', 'raw-body', `${name}@${digest}`);
    expect(got.stdout).to.equal(spaced);
    await regctl('manifest', 'delete', `${name}@${digest}`);
    await here().refused('regctl', ['manifest', 'head', `${name}@${digest}`]);
  });

  it('lists repositories and tags, by pages too', async () => {
    const name = here().at('image');
    for (let tag = 0; tag < 5; tag++) await regctl('image', 'copy', `${name}:v1`, `${here().at('pages')}:t${tag}`);
    const first = await regctl('tag', 'ls', '--limit', '2', here().at('pages'));
    expect(first.stdout.trim().split('\n')).to.deep.equal(['t0', 't1']);
    const second = await regctl('tag', 'ls', '--limit', '2', '--last', 't1', here().at('pages'));
    expect(second.stdout.trim().split('\n')).to.deep.equal(['t2', 't3']);
    const repositories = await regctl('repo', 'ls', registry().host, '--limit', '1000');
    expect(repositories.stdout.split('\n')).to.include.members([
      `${here().repository}/image`,
      `${here().repository}/pages`,
    ]);
  });

  it('deletes a tag alone: the manifest and other tags stay', async () => {
    await regctl('tag', 'delete', `${here().at('pages')}:t3`);
    const tags = (await regctl('tag', 'ls', here().at('pages'))).stdout.trim().split('\n');
    expect(tags).to.deep.equal(['t0', 't1', 't2', 't4']);
    const head = await ask('HEAD', `/v2/${here().repository}/pages/manifests/${layout.digest}`);
    expect(head.status).to.equal(200);
  });

  it('logs out', async () => {
    await regctl('registry', 'logout', registry().host);
    await here().refused('regctl', ['tag', 'ls', here().at('image')]);
  });
});
