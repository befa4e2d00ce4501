// Small reads: a manifest by tag, and whether a manifest and a blob are there.
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Connection } from '../support/connection.mjs';
import { load, MANIFEST, pushArtifact } from '../support/load.mjs';
import { wrk } from '../support/wrk.mjs';

const CONNECTIONS = 32;
const SECONDS = 5;
const WARM_UP_SECONDS = 2;
const TAG = 'v1';

const everywhere = (ratio) => ({ disk: ratio, memory: ratio });

/** What nginx has of it: files of the same size under the same paths. */
async function writeFiles(folder, repository) {
  const digest = `sha256:${'0'.repeat(64)}`;
  for (const [path, length] of [
    [`manifests/${TAG}`, 500],
    [`manifests/${digest}`, 500],
    [`blobs/${digest}`, 10_240],
  ]) {
    const file = join(folder, 'www/v2', repository, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, Buffer.alloc(length));
  }
  return { manifest: digest, blob: digest };
}

export default {
  name: 'requests',
  title: 'Requests',
  about:
    `${CONNECTIONS} connections for ${SECONDS} seconds each: GET of a manifest by its tag (wrk), HEAD of a ` +
    'manifest by its digest and HEAD of a blob (a client of our own on kept connections, since wrk waits for a ' +
    'body). nginx has files of the same size there, which shows what the clients can do.',
  places: ['disk', 'memory'],
  who: ['ours', 'keyed', 'distribution', 'dockerRegistry', 'nginx'],
  needs: ['wrk'],
  keeps: true,
  figures: {
    'manifest GET by tag': { unit: '1/s', zot: everywhere(28_800 / 8600) },
    'manifest GET by tag, p99': { unit: 'ms', less: true, zot: everywhere(65 / 19) },
    'manifest HEAD by digest': { unit: '1/s', zot: everywhere(28_000 / 9800) },
    'manifest HEAD by digest, p99': { unit: 'ms', less: true, zot: everywhere(33 / 17) },
    'blob HEAD': { unit: '1/s', zot: everywhere(16_200 / 12_800) },
    'blob HEAD, p99': { unit: 'ms', less: true, zot: everywhere(18 / 14) },
    memory: { unit: 'MiB', less: true },
  },

  async prepare({ registry, repository, folder }) {
    if (registry.name === 'nginx') return await writeFiles(folder, repository);
    const connection = new Connection(registry.port);
    const pushed = await pushArtifact(connection, { repository, headers: registry.basic }, TAG);
    connection.close();
    return { manifest: pushed.manifest.digest, blob: pushed.layer.digest };
  },

  async measure({ at, prepared, watch }) {
    const { port, repository } = at;
    const headers = { accept: MANIFEST, ...at.headers };
    const path = `/v2/${repository}`;
    const get = (seconds) =>
      wrk({ port, path: `${path}/manifests/${TAG}`, headers, connections: CONNECTIONS, seconds });
    const head = (what) => (seconds) => {
      const argument = { path: `${path}/${what}`, headers };
      return load({ port, deed: 'head', argument, connections: CONNECTIONS, seconds });
    };
    const warm = async (work) => {
      await work(WARM_UP_SECONDS);
      return await work(SECONDS);
    };
    const { result, used } = await watch(async () => ({
      get: await warm(get),
      manifest: await warm(head(`manifests/${prepared.manifest}`)),
      blob: await warm(head(`blobs/${prepared.blob}`)),
    }));
    return {
      'manifest GET by tag': result.get.perSecond,
      'manifest GET by tag, p99': result.get.p99,
      'manifest HEAD by digest': result.manifest.perSecond,
      'manifest HEAD by digest, p99': result.manifest.p99,
      'blob HEAD': result.blob.perSecond,
      'blob HEAD, p99': result.blob.p99,
      memory: used.peak,
    };
  },
};
