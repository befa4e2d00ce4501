import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { expectSameFile, MiB, writeSeeded } from './support/bytes.js';
import { isolateContainers } from './support/containers.js';
import { seededDigest, writeRootfs } from './support/image.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('podman', () => {
  const here = scenario('podman', ['podman', 'busybox'], { root: true });
  const podman = (...args: string[]) => here().run('podman', args);
  const insecure = '--tls-verify=false';
  const size = 12 * MiB + 3;

  before(async () => {
    await isolateContainers(here());
    await writeRootfs(here().path('context', 'rootfs'), 'podman', size);
    const lines = ['FROM scratch', 'COPY rootfs /', 'ENV PATH=/bin', 'RUN sha256sum /weights.bin > /sum'];
    await writeFile(here().path('context', 'Containerfile'), `${lines.join('\n')}\nCMD ["/bin/cat","/sum"]\n`);
  });

  const forget = () => podman('rmi', '--all', '--force');

  /** Mounts a pulled image and compares what is in it. */
  async function expectImage(image: string): Promise<void> {
    const root = (await podman('image', 'mount', image)).stdout.trim();
    const weights = await writeSeeded(here().path('weights.bin'), 'podman', size);
    await expectSameFile(join(root, 'weights.bin'), weights);
    const said = await here().run('chroot', [root, '/bin/sh', '-c', 'cat /sum; sha256sum /weights.bin']);
    const line = `${await seededDigest(here().folder, 'podman', size)}  /weights.bin\n`;
    expect(said.stdout).to.equal(line + line);
    await podman('image', 'unmount', '--all');
  }

  it('logs in with the key, and is refused with another', async () => {
    const { user, key, host } = registry();
    const login = ['login', insecure, host, '-u', user, '--password-stdin'];
    expect(await here().refused('podman', login, { input: 'not the key' })).to.match(/invalid username|unauthorized/i);
    await here().run('podman', login, { input: key });
  });

  it('builds, pushes and pulls an image that runs', async () => {
    const image = `${here().at('image')}:v1`;
    await podman('build', '-t', image, here().path('context'));
    await podman('push', insecure, '--digestfile', here().path('digest'), image);
    await forget();
    await podman('pull', insecure, image);
    await expectImage(image);
  });

  it('pushes in the Docker schema, and with other compression', async () => {
    const image = `${here().at('image')}:v1`;
    await podman('push', insecure, '--format', 'v2s2', image, `${here().at('docker')}:v1`);
    await podman('push', insecure, '--compression-format', 'zstd', image, `${here().at('zstd')}:v1`);
    await forget();
    for (const name of ['docker', 'zstd']) {
      await podman('pull', insecure, `${here().at(name)}:v1`);
      await expectImage(`${here().at(name)}:v1`);
    }
  });

  it('tags, searches, lists tags, and pulls by digest and all tags', async () => {
    const image = here().at('docker');
    for (const tag of ['v2', 'latest']) {
      await podman('tag', `${image}:v1`, `${image}:${tag}`);
      await podman('push', insecure, `${image}:${tag}`);
    }
    const listed = (await podman('search', insecure, '--list-tags', image)).stdout.trim().split('\n').slice(1);
    expect(listed.map((line) => line.split(/\s+/).at(1))).to.deep.equal(['latest', 'v1', 'v2']);
    const found = await podman('search', insecure, '--limit', '100', here().at('docker'));
    expect(found.stdout).to.contain(here().at('docker'));
    const head = await ask('HEAD', `/v2/${here().repository}/docker/manifests/v2`);
    await forget();
    await podman('pull', insecure, `${image}@${head.headers.get('docker-content-digest')}`);
    await podman('pull', insecure, '--all-tags', image);
    expect((await podman('images', '--format', '{{.Tag}}')).stdout).to.match(/latest/);
  });

  it('makes a list of images, pushes it with all of them and pulls it', async () => {
    const list = `${here().at('list')}:v1`;
    await podman('pull', insecure, `${here().at('image')}:v1`);
    await podman('manifest', 'create', list);
    for (const arch of ['amd64', 'arm64']) {
      await podman('manifest', 'add', insecure, '--arch', arch, list, `${here().at('image')}:v1`);
    }
    await podman('manifest', 'push', '--all', insecure, list, `docker://${list}`);
    const index = JSON.parse((await podman('manifest', 'inspect', list)).stdout);
    expect(index.manifests.length).to.be.greaterThan(0);
    await podman('manifest', 'rm', list);
    await forget();
    await podman('pull', insecure, '--arch', 'arm64', list);
    await expectImage(list);
  });

  it('pushes and pulls an artifact, if this podman can', async function () {
    const help = await here().run('podman', ['artifact', '--help'], { codes: [0, 125] });
    if (!/^ +push /m.test(help.stdout) || !help.stdout.includes('artifact')) {
      console.log('not run: podman artifact: this version has none');
      this.skip();
    }
    const artifact = `${here().at('artifact')}:v1`;
    await writeFile(here().path('notes.txt'), 'some text\n');
    await writeSeeded(here().path('model.gguf'), 'podman-artifact', 5 * MiB);
    await podman('artifact', 'add', artifact, here().path('notes.txt'), here().path('model.gguf'));
    await podman('artifact', 'push', insecure, artifact);
    await podman('artifact', 'rm', artifact);
    await podman('artifact', 'pull', insecure, artifact);
    expect((await podman('artifact', 'inspect', artifact)).stdout).to.contain('model.gguf');
  });

  it('cannot pull what was deleted', async () => {
    const head = await ask('HEAD', `/v2/${here().repository}/image/manifests/v1`);
    const digest = head.headers.get('docker-content-digest');
    expect((await ask('DELETE', `/v2/${here().repository}/image/manifests/${digest}`)).status).to.equal(202);
    await forget();
    expect(await here().refused('podman', ['pull', insecure, `${here().at('image')}:v1`])).to.match(
      /manifest unknown/i,
    );
  });

  it('logs out', async () => {
    await podman('logout', registry().host);
    await here().refused('podman', ['pull', insecure, `${here().at('docker')}:v1`]);
  });
});
