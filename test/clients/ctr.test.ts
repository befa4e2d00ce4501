import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { expectSameFile, MiB, writeSeeded } from './support/bytes.js';
import { type Layout, writeLayout } from './support/image.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('ctr', () => {
  const here = scenario('ctr', ['ctr', 'containerd', 'busybox'], { root: true });
  const ctr = (...args: string[]) => here().run('ctr', ['-a', here().path('c.sock'), ...args]);
  // ctr has no login: it takes the key with each command.
  const remote = (): string[] => ['--plain-http', '--user', `${registry().user}:${registry().key}`];
  const size = 28 * MiB + 2;
  let layout: Layout;

  before(async () => {
    const plugins = ['io.containerd.grpc.v1.cri', 'btrfs', 'zfs', 'devmapper', 'aufs'];
    const disabled = plugins.map((name) => (name.includes('cri') ? name : `io.containerd.snapshotter.v1.${name}`));
    const config = [
      'version = 2',
      `root = "${here().path('root')}"`,
      `state = "${here().path('state')}"`,
      `disabled_plugins = ${JSON.stringify([...disabled, 'io.containerd.internal.v1.opt'])}`,
      '[grpc]',
      `address = "${here().path('c.sock')}"`,
      '[ttrpc]',
      `address = "${here().path('c.sock.ttrpc')}"`,
    ];
    await writeFile(here().path('config.toml'), `${config.join('\n')}\n`);
    const version = ['-a', here().path('c.sock'), '--connect-timeout', '2s', 'version'];
    const isReady = async () => (await here().run('ctr', version, { codes: [0, 1] })).code === 0;
    await here().daemon('containerd', ['--config', here().path('config.toml')], isReady);
    layout = await writeLayout(here().path('layout'), 'ctr', size);
    await here().run('tar', ['-cf', here().path('layout.tar'), '-C', layout.folder, '.']);
  });

  const reference = (name: string): string => here().at(name);

  it('is refused with a wrong key', async () => {
    const args = ['-a', here().path('c.sock'), 'images', 'pull', '--plain-http', '--user', `${registry().user}:wrong`];
    expect(await here().refused('ctr', [...args, reference('image:v1')])).to.match(/401|unauthorized|authorization/i);
  });

  it('imports an image and pushes it', async () => {
    await ctr('images', 'import', '--index-name', reference('image:v1'), '--no-unpack', here().path('layout.tar'));
    await ctr('images', 'push', ...remote(), reference('image:v1'), reference('image:v1'));
    // To another repository and under another tag, and what is there already.
    await ctr('images', 'push', ...remote(), reference('copy:c1'), reference('image:v1'));
    await ctr('images', 'push', ...remote(), reference('image:v2'), reference('image:v1'));
  });

  it('pulls it, and mounts and exports the same bytes', async () => {
    await ctr('images', 'rm', '--sync', reference('image:v1'));
    const snapshotter = ['--snapshotter', 'native'];
    await ctr('images', 'pull', ...remote(), ...snapshotter, reference('image:v1'));
    const root = here().path('mounted');
    await here().run('mkdir', [root]);
    await ctr('images', 'mount', ...snapshotter, reference('image:v1'), root);
    here().onEnd(() => here().run('umount', [root], { codes: [0, 32] }));
    await expectSameFile(join(root, 'weights.bin'), await writeSeeded(here().path('weights.bin'), 'ctr', size));
    await ctr('images', 'unmount', '--rm', ...snapshotter, root);

    await ctr('images', 'export', here().path('export.tar'), reference('image:v1'));
    await here().run('sh', ['-c', 'mkdir export && tar -xf export.tar -C export']);
    const blob = (folder: string, digest: string) =>
      here().path(folder, 'blobs', 'sha256', digest.slice('sha256:'.length));
    for (const { digest } of JSON.parse(layout.manifest).layers) {
      await expectSameFile(blob('export', digest), blob('layout', digest));
    }
  });

  it('checks what is there, and pulls by digest and with several downloads', async () => {
    const checked = (await ctr('images', 'check', '--snapshotter', 'native')).stdout;
    expect(checked).to.contain('complete');
    await ctr('images', 'rm', '--sync', reference('image:v1'));
    const args = ['--snapshotter', 'native', '--max-concurrent-downloads', '4', '--all-platforms'];
    await ctr('images', 'pull', ...remote(), ...args, `${here().at('copy')}@${layout.digest}`);
    await ctr('content', 'fetch', ...remote(), reference('image:v2'));
  });

  it('cannot pull what was deleted; the copy stays', async () => {
    const tags = (await ask('GET', `/v2/${here().repository}/image/tags/list`)).json() as Promise<{ tags: string[] }>;
    expect((await tags).tags).to.deep.equal(['v1', 'v2']);
    for (const tag of ['v1', 'v2']) {
      expect((await ask('DELETE', `/v2/${here().repository}/image/manifests/${tag}`)).status).to.equal(202);
    }
    const pull = ['-a', here().path('c.sock'), 'images', 'pull', ...remote(), '--snapshotter', 'native'];
    expect(await here().refused('ctr', [...pull, reference('image:v1')])).to.match(/not found/i);
    await ctr('images', 'pull', ...remote(), '--snapshotter', 'native', reference('copy:c1'));
  });
});
