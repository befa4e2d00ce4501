import { mkdir, writeFile } from 'node:fs/promises';
import type { Scenario } from './scenario.js';
import { overTls } from './tls.js';

/** podman and buildah on storage of the scenario's own, with a driver that works on any file system. */
export async function isolateContainers(scenario: Scenario): Promise<void> {
  const at = (name: string): string => scenario.path(name);
  const storage = [`[storage]`, 'driver="vfs"', `graphroot="${at('graph')}"`, `runroot="${at('runroot')}"`];
  await writeFile(at('storage.conf'), `${storage.join('\n')}\n`);
  // Nothing of systemd, and no lock file in /etc.
  const containers = ['[network]', `network_config_dir="${at('networks')}"`, '[engine]'];
  containers.push('cgroup_manager="cgroupfs"', 'events_logger="none"', `tmp_dir="${at('libpod')}"`);
  await writeFile(at('containers.conf'), `${containers.join('\n')}\n`);
  const registries = ['[[registry]]', `location="${scenario.host}"`, `insecure=${!overTls}`];
  await writeFile(at('registries.conf'), `${registries.join('\n')}\n`);
  // The machine's policy may forbid what a test may do; this is where one of the user's own is looked for.
  await mkdir(scenario.path('home', '.config', 'containers'), { recursive: true });
  const policy = '{"default":[{"type":"insecureAcceptAnything"}]}';
  await writeFile(scenario.path('home', '.config', 'containers', 'policy.json'), policy);
  // Where root's memory of blobs lies, whatever the storage is.
  scenario.removeIfNew(
    '/var/lib/containers',
    '/var/lib/containers/cache',
    '/var/lib/containers/cache/blob-info-cache-v1.boltdb',
  );
  Object.assign(scenario.settings, {
    CONTAINERS_STORAGE_CONF: at('storage.conf'),
    CONTAINERS_CONF: at('containers.conf'),
    CONTAINERS_REGISTRIES_CONF: at('registries.conf'),
    BUILDAH_ISOLATION: 'chroot',
  });
}
