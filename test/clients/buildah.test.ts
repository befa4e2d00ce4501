import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { expectSameFile, MiB, writeSeeded } from './support/bytes.js';
import { isolateContainers } from './support/containers.js';
import { seededDigest, writeRootfs } from './support/image.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('buildah', () => {
  const here = scenario('buildah', ['buildah', 'busybox'], { root: true });
  const buildah = (...args: string[]) => here().run('buildah', args);
  const insecure = '--tls-verify=false';
  const size = 10 * MiB + 9;

  before(async () => {
    await isolateContainers(here());
    await writeRootfs(here().path('rootfs'), 'buildah', size);
  });

  it('logs in with the key, and is refused with another', async () => {
    const { user, key, host } = registry();
    const login = ['login', insecure, '-u', user, '--password-stdin', host];
    expect(await here().refused('buildah', login, { input: 'not the key' })).to.match(/invalid username|unauthorized/i);
    await here().run('buildah', login, { input: key });
  });

  it('builds from scratch step by step, and pushes', async () => {
    const container = (await buildah('from', 'scratch')).stdout.trim();
    await buildah('copy', container, here().path('rootfs'), '/');
    await buildah('config', '--env', 'PATH=/bin', '--label', 'org.example.model=tiny', '--cmd', '/bin/sh', container);
    await buildah('commit', container, `${here().at('image')}:v1`);
    await buildah('rm', container);
    await buildah('push', insecure, `${here().at('image')}:v1`);
    // Sent as it is committed, straight to a registry.
    const direct = (await buildah('from', `${here().at('image')}:v1`)).stdout.trim();
    await buildah('commit', insecure, direct, `docker://${here().at('direct')}:v1`);
    await buildah('rm', direct);
  });

  it('pulls, runs and compares', async () => {
    for (const name of ['image', 'direct']) {
      await buildah('rmi', '--all', '--force');
      const container = (await buildah('from', insecure, `${here().at(name)}:v1`)).stdout.trim();
      const said = await buildah('run', container, '--', '/bin/sha256sum', '/weights.bin');
      expect(said.stdout).to.contain(await seededDigest(here().folder, 'buildah', size));
      const root = (await buildah('mount', container)).stdout.trim();
      await expectSameFile(join(root, 'weights.bin'), await writeSeeded(here().path('weights.bin'), 'buildah', size));
      await buildah('umount', container);
      await buildah('rm', container);
    }
  });

  it('builds by a file on a base in the registry', async () => {
    const lines = [`FROM ${here().at('image')}:v1`, 'RUN sha256sum /weights.bin > /sum', 'CMD ["/bin/cat","/sum"]'];
    await writeFile(here().path('Containerfile'), `${lines.join('\n')}\n`);
    await buildah('bud', insecure, '-f', here().path('Containerfile'), '-t', `${here().at('image')}:v2`, here().folder);
    await buildah('push', insecure, `${here().at('image')}:v2`);
  });

  it('makes a list of images and pushes it', async () => {
    const list = `${here().at('list')}:v1`;
    await buildah('manifest', 'create', list);
    await buildah('manifest', 'add', insecure, list, `docker://${here().at('image')}:v1`);
    await buildah('manifest', 'add', insecure, '--arch', 'arm64', list, `docker://${here().at('image')}:v2`);
    await buildah('manifest', 'push', '--all', insecure, list, `docker://${list}`);
    const answer = await ask('GET', `/v2/${here().repository}/list/manifests/v1`);
    expect(((await answer.json()) as { manifests: unknown[] }).manifests).to.have.length(2);
  });

  it('tags, copies to another repository, and the copy outlives a deletion', async () => {
    await buildah('tag', `${here().at('image')}:v2`, `${here().at('copy')}:c1`);
    await buildah('push', insecure, `${here().at('copy')}:c1`);
    const head = await ask('HEAD', `/v2/${here().repository}/image/manifests/v2`);
    const digest = head.headers.get('docker-content-digest');
    expect((await ask('DELETE', `/v2/${here().repository}/image/manifests/${digest}`)).status).to.equal(202);
    await buildah('rmi', '--all', '--force');
    await here().refused('buildah', ['pull', insecure, `${here().at('image')}:v2`]);
    await buildah('pull', insecure, `${here().at('copy')}:c1`);
  });

  it('logs out', async () => {
    await buildah('logout', registry().host);
    await buildah('rmi', '--all', '--force');
    await here().refused('buildah', ['pull', insecure, `${here().at('copy')}:c1`]);
  });
});
