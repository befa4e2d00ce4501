import { imageOf, descriptorOf, bytesOf, LAYER, pushBlob, pushConfig, putManifest } from '../http/content.js';
import { api } from '../support/api.js';
import type { TestServer } from '../support/server.js';

interface Resource {
  readonly id: string;
}
interface Page<Item> {
  readonly items: readonly Item[];
}

const REPOSITORY = 'acme/polaris-7b';

/** A model with two releases, one of them running, a draft and a key. @returns the ids of the keys that must not be touched. */
export async function seed(server: TestServer): Promise<string[]> {
  const keys = await api<Page<Resource>>(server, 'GET', '/api-keys');
  const model = await api<Resource>(server, 'POST', '/models', {
    body: { name: 'polaris-7b', storage_path: REPOSITORY, company: 'Acme', parameter_count: '7B', tags: ['chat'] },
  });
  for (const tag of ['v3.0-fp16', 'v3.0-int8', 'latest']) {
    const bytes = bytesOf(tag, 1000);
    await pushBlob(server, REPOSITORY, bytes);
    const layer = {
      ...descriptorOf(bytes, LAYER),
      annotations: { 'org.opencontainers.image.title': 'model.safetensors' },
    };
    const manifest = imageOf(await pushConfig(server, REPOSITORY), [layer]);
    const pushed = await putManifest(server, REPOSITORY, tag, manifest);
    if (pushed.status !== 201) throw new Error(`${tag} was not pushed: ${await pushed.text()}`);
  }
  const releases = await api<Page<Resource>>(server, 'GET', `/models/${model.body.id}/releases`);
  for (const environment of ['staging', 'production']) {
    const body = { release_id: releases.body.items[0]?.id, environment, replicas: 2 };
    await api(server, 'POST', '/deployments', { body });
  }
  await api(server, 'POST', '/releases', { body: { model_id: model.body.id, version: 'v3.1', quantization: 'fp16' } });
  await api(server, 'POST', '/api-keys', {
    body: { name: 'release pipeline', grants: [{ repository: 'acme/**', actions: ['pull', 'push'] }] },
  });
  return keys.body.items.map(({ id }) => id);
}
