// The whole thing, as a person does it: `oras push` and `oras pull` of four files.
import { execFile } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ORAS } from '../support/peers.mjs';
import { KEY } from '../support/registries.mjs';

const run = promisify(execFile);
const MiB = 1024 * 1024;
const FILES = 4;

export default {
  name: 'oras',
  title: 'oras',
  about:
    '`oras push` and `oras pull` of four files of a quarter of the size, which lie where the registry has its ' +
    'blobs.',
  places: ['disk', 'memory'],
  who: ['ours', 'keyed', 'distribution', 'dockerRegistry'],
  needs: ['oras'],
  figures: {
    'oras push': { unit: 's', less: true, zot: { disk: 3.5 / 5.5, memory: 3.5 / 5.5 } },
    'oras pull': { unit: 's', less: true, zot: { disk: 2.3 / 3.1, memory: 2.3 / 3.1 } },
    memory: { unit: 'MiB', less: true },
  },

  async measure({ registry, client, at, size, folder, watch, settle }) {
    const files = join(folder, 'files');
    await mkdir(files);
    const names = [];
    for (let index = 0; index < FILES; index++) {
      await client.tell('make', { length: (size / FILES) * MiB });
      await client.tell('save', { path: join(files, `model-${index}.bin`) });
      names.push(`model-${index}.bin`);
    }
    const config = ['--registry-config', join(folder, 'oras.json')];
    const host = `127.0.0.1:${registry.port}`;
    const oras = async (...words) => {
      const begun = performance.now();
      await run(ORAS, [...words, '--plain-http', ...config], { cwd: files });
      return (performance.now() - begun) / 1000;
    };
    if (registry.isKeyed) await oras('login', host, '-u', 'bench', '-p', KEY);
    await settle();
    const reference = `${host}/${at.repository}:v1`;
    const { result, used } = await watch(async () => {
      const push = await oras('push', reference, ...names);
      await settle();
      return { push, pull: await oras('pull', reference, '-o', join(folder, 'pulled')) };
    });
    await rm(files, { recursive: true });
    return { 'oras push': result.push, 'oras pull': result.pull, memory: used.peak };
  },
};
