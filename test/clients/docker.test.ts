import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { notRun } from '../support/not-run.js';
import { expectSameFile, MiB, writeSeeded } from './support/bytes.js';
import { writeRootfs } from './support/image.js';
import { ask, registry } from './support/registry.js';
import { findClient, scenario } from './support/scenario.js';

describe('docker', () => {
  const here = scenario('docker', ['docker', 'dockerd', 'containerd', 'busybox'], { root: true });
  const docker = (...args: string[]) => here().run('docker', args);
  const size = 36 * MiB + 1;

  before(async () => {
    const socket = `unix://${here().path('d.sock')}`;
    // The builder without a plugin: buildx has a test of its own.
    Object.assign(here().settings, { DOCKER_HOST: socket, DOCKER_BUILDKIT: '0' });
    const folders = [
      '--data-root',
      here().path('data'),
      '--exec-root',
      here().path('exec'),
      '--pidfile',
      here().path('pid'),
    ];
    const quiet = ['--iptables=false', '--ip6tables=false', '--bridge=none', '--storage-driver=vfs'];
    await writeFile(here().path('daemon.json'), '{}');
    const args = ['--config-file', here().path('daemon.json'), '--host', socket, ...folders, ...quiet];
    const isReady = async () => (await here().run('docker', ['version'], { codes: [0, 1] })).code === 0;
    // dockerd 20 writes a key there, whatever its folders are.
    here().removeIfNew('/etc/docker', '/etc/docker/key.json');
    await here().daemon('dockerd', args, isReady);
    await writeRootfs(here().path('context', 'rootfs'), 'docker', size);
    const lines = ['FROM scratch', 'COPY rootfs/bin /bin', 'COPY rootfs/weights.bin /weights.bin', 'CMD ["/bin/sh"]'];
    await writeFile(here().path('context', 'Dockerfile'), `${lines.join('\n')}\n`);
  });

  const forget = () => docker('image', 'prune', '--all', '--force');

  async function expectImage(image: string): Promise<void> {
    const container = (await docker('create', image, '/bin/sh')).stdout.trim();
    await docker('cp', `${container}:/weights.bin`, here().path('copied.bin'));
    await docker('rm', container);
    await expectSameFile(here().path('copied.bin'), await writeSeeded(here().path('weights.bin'), 'docker', size));
  }

  it('logs in with the key, and is refused with another', async () => {
    const { user, key, host } = registry();
    const login = ['login', host, '-u', user, '--password-stdin'];
    expect(await here().refused('docker', login, { input: 'not the key' })).to.match(/401|unauthorized/i);
    await here().run('docker', login, { input: key });
  });

  let digest = '';

  it('builds, pushes and pulls, byte for byte', async () => {
    const image = `${here().at('image')}:v1`;
    await docker('build', '-t', image, here().path('context'));
    const pushed = (await docker('push', image)).stdout;
    digest = /digest: (sha256:[0-9a-f]{64})/.exec(pushed)?.[1] ?? '';
    await forget();
    await docker('pull', image);
    await expectImage(image);
    const known = (await docker('images', '--digests', '--format', '{{.Digest}}', here().at('image'))).stdout.trim();
    expect(known).to.equal(digest);
  });

  it('pushes what is there already, to another repository too, without sending it', async () => {
    const image = `${here().at('image')}:v1`;
    expect((await docker('push', image)).stdout).to.contain('Layer already exists');
    await docker('tag', image, `${here().at('copy')}:c1`);
    expect((await docker('push', `${here().at('copy')}:c1`)).stdout).to.contain('Mounted from');
  });

  it('pulls by digest, and all tags', async () => {
    for (const tag of ['v2', 'latest']) await docker('tag', `${here().at('image')}:v1`, `${here().at('image')}:${tag}`);
    await docker('push', '--all-tags', here().at('image'));
    await forget();
    await docker('pull', `${here().at('image')}@${digest}`);
    await forget();
    await docker('pull', '--all-tags', here().at('image'));
    const tags = (await docker('images', '--format', '{{.Tag}}', here().at('image'))).stdout.trim().split('\n');
    expect(tags.sort()).to.deep.equal(['latest', 'v1', 'v2']);
  });

  it('saves an image that came from the registry and loads it again', async () => {
    await docker('save', '-o', here().path('image.tar'), `${here().at('image')}:v1`);
    await forget();
    await docker('load', '-i', here().path('image.tar'));
    await docker('tag', `${here().at('image')}:v1`, `${here().at('loaded')}:v1`);
    await docker('push', `${here().at('loaded')}:v1`);
    await expectImage(`${here().at('loaded')}:v1`);
  });

  it('imports a file system as an image of one layer', async () => {
    await here().run('tar', ['-cf', 'rootfs.tar', '-C', 'context/rootfs', '.']);
    await docker('import', here().path('rootfs.tar'), `${here().at('imported')}:v1`);
    await docker('push', `${here().at('imported')}:v1`);
    await forget();
    await docker('pull', `${here().at('imported')}:v1`);
    await expectImage(`${here().at('imported')}:v1`);
  });

  it('makes a manifest list, pushes it and inspects it', async () => {
    const list = `${here().at('image')}:multi`;
    await docker('manifest', 'create', '--insecure', list, `${here().at('image')}@${digest}`);
    const annotate = ['--os', 'linux', '--arch', 'arm64'];
    await docker('manifest', 'annotate', ...annotate, list, `${here().at('image')}@${digest}`);
    await docker('manifest', 'push', '--insecure', '--purge', list);
    const inspected = JSON.parse((await docker('manifest', 'inspect', '--insecure', list)).stdout);
    expect(inspected.manifests[0].digest).to.equal(digest);
  });

  it('builds and pushes with buildx, and inspects and copies as imagetools do', async function () {
    const buildx = findClient('buildx');
    if (buildx === undefined) return notRun(this, 'buildx', 'it is not installed (npm run clients:install)');
    await mkdir(here().path('home', '.docker', 'cli-plugins'));
    await symlink(buildx, here().path('home', '.docker', 'cli-plugins', 'docker-buildx'));
    const image = `${here().at('buildx')}:v1`;
    await docker('buildx', 'build', '--push', '-t', image, here().path('context'));
    await forget();
    await docker('pull', image);
    await expectImage(image);
    await docker(
      'buildx',
      'imagetools',
      'create',
      '-t',
      `${here().at('buildx')}:multi`,
      image,
      `${here().at('image')}:v1`,
    );
    const raw = await docker('buildx', 'imagetools', 'inspect', '--raw', `${here().at('buildx')}:multi`);
    expect(JSON.parse(raw.stdout).manifests).to.have.length(2);
  });

  it('cannot pull what was deleted; the copy stays', async () => {
    expect((await ask('DELETE', `/v2/${here().repository}/image/manifests/${digest}`)).status).to.equal(202);
    await forget();
    expect(await here().refused('docker', ['pull', `${here().at('image')}:v1`])).to.match(
      /manifest unknown|not found/i,
    );
    await docker('pull', `${here().at('copy')}:c1`);
    await expectImage(`${here().at('copy')}:c1`);
  });

  it('logs out', async () => {
    await docker('logout', registry().host);
    await here().refused('docker', ['pull', `${here().at('loaded')}:v1`]);
  });
});
