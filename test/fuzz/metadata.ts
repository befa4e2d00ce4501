// What the metadata API has to be asked for: bodies of JSON, parameters, and ids, which are known only when they are there.
import { expect } from 'chai';
import type { Chance } from '../faults/support/bytes.js';
import { api } from '../support/api.js';
import type { TestServer } from '../support/server.js';
import { BLOBS, DIGESTS, REPOSITORIES, TAGS } from './scene.js';
import { digestOf } from '../http/content.js';
import type { Route } from './routes.js';
import { odd } from './words.js';

/** Stand in requests for what is there, and are as long as the ids that replace them. */
export const IDS = {
  models: '11111111-0000-4000-8000-000000000000',
  releases: '22222222-0000-4000-8000-000000000000',
  drafts: '33333333-0000-4000-8000-000000000000',
  deployments: '44444444-0000-4000-8000-000000000000',
  artifacts: '55555555-0000-4000-8000-000000000000',
  'api-keys': '66666666-0000-4000-8000-000000000000',
} as const;

/** The ids that stand for those of IDS now. */
export type Ids = ReadonlyMap<string, string>;

const ENVIRONMENTS = ['production', 'staging'] as const;

/** Lets tags be moved again in all models. */
export async function openModels(server: TestServer): Promise<void> {
  const { body } = await api<{ items: { id: string; immutable: boolean }[] }>(server, 'GET', '/models?limit=1000');
  for (const { id, immutable } of body.items)
    if (immutable)
      expect((await api(server, 'PATCH', `/models/${id}`, { body: { immutable: false } })).status).to.equal(200);
}

/** Sees to it that there is one of each kind. @throws Error if an answer is not what the contract says */
export async function pushMetadata(server: TestServer): Promise<Ids> {
  const make = async (path: string, body: object) => {
    const answer = await api<{ id: string }>(server, 'POST', path, { body });
    expect(answer.status, `POST ${path} ${answer.bytes}`).to.equal(201);
    return answer.body.id;
  };
  const [repository] = REPOSITORIES;
  const models = await api<{ items: { id: string; storage_path: string }[] }>(server, 'GET', '/models?limit=1000');
  const known = models.body.items.find((item) => item.storage_path === repository)?.id;
  const model = known ?? (await make('/models', { name: `${repository} ${Date.now()}`, storage_path: repository }));
  const releases = await api<{ items: { id: string; status: string }[] }>(server, 'GET', `/models/${model}/releases`);
  const release = releases.body.items.find(({ status }) => status === 'published')?.id ?? '';
  const draft = await make('/releases', { model_id: model, version: `9.${Date.now()}`, quantization: 'fp16' });
  const [, blob = Buffer.alloc(0)] = BLOBS;
  return new Map([
    [IDS.models, model],
    [IDS.releases, release],
    [IDS.drafts, draft],
    [IDS.deployments, await make('/deployments', { release_id: release, environment: 'production' })],
    [IDS.artifacts, await make('/artifacts', { release_id: draft, digest: digestOf(blob), path: 'a/b.json' })],
    [IDS['api-keys'], await make('/api-keys', { name: 'fuzz', grants: [] })],
  ]);
}

/** What parameters of a path may be. */
export function pathWord(chance: Chance, { method, path }: Route, name: string): string {
  // What one request removes the others of its round don't find.
  if (method === 'DELETE' && chance.next() < 0.7) return '77777777-0000-4000-8000-000000000000';
  if (name === 'model') return chance.pick([IDS.models, encodeURIComponent(chance.pick(REPOSITORIES))]);
  if (name === 'alias') return chance.pick(['latest', 'prod', 'stable']);
  if (name === 'environment') return chance.pick(ENVIRONMENTS);
  const kind = /\/v1\/([a-z-]+)/.exec(path)?.[1] ?? '';
  if (kind === 'releases') return chance.pick([IDS.releases, IDS.drafts]);
  return IDS[kind as keyof typeof IDS] ?? 'word';
}

/** Parameters of the queries, with values that fit. `format=ndjson` is left out: it has no length, by which bodies are told. */
export const API_PARAMETERS: Readonly<Record<string, (chance: Chance) => string>> = {
  limit: (chance) => chance.pick(['1', '50', '1000']),
  total: () => 'true',
  sort: (chance) => chance.pick(['created_at', '-created_at', 'name', '-version', 'size_bytes']),
  cursor: (chance) =>
    Buffer.from(
      JSON.stringify([
        chance.pick(['-created_at', 'created_at', 'name']),
        chance.pick(['2026-05-04T09:30:00.123456Z', '9999-99-99T99:99:99Z', 'x', '\u0000', '1']),
        chance.pick([IDS.models, '1', '9007199254740993']),
      ]),
    ).toString('base64url'),
  q: () => 'fuzz',
  name: (chance) => encodeURIComponent(chance.pick(REPOSITORIES)),
  model: () => IDS.models,
  from: (chance) => chance.pick([IDS.releases, IDS.drafts]),
  to: (chance) => chance.pick([IDS.releases, IDS.drafts]),
  release_id: (chance) => chance.pick([IDS.releases, IDS.drafts]),
  parameter_count: (chance) => chance.pick(['7B', '%3E=7000000000', '7B..13B', '%3C1e999', '..']),
  quantization: () => 'fp16',
  version: (chance) => chance.pick(TAGS),
  tags: () => 'a,b',
  environment: (chance) => chance.pick(ENVIRONMENTS),
  status: (chance) => chance.pick(['published', 'active', 'draft']),
  digest: (chance) => chance.pick(DIGESTS),
  force: () => 'true',
  path: () => 'a/b.json',
  checksum: (chance) => chance.pick(DIGESTS),
  is_active: () => 'true',
  action: (chance) => chance.pick(['release.*', 'model.create']),
  since: (chance) => chance.pick(['2026-05-04T09:30:00Z', '0001-01-01T00:00:00%2B23:59', '9999-12-31T23:59:59-23:59']),
};

/** The parameters without which a route does nothing. */
export function requiredOf(path: string): readonly string[] {
  if (path.endsWith('/compare')) return ['from', 'to'];
  if (path.endsWith('/latest')) return ['model'];
  return path.endsWith('/upload') ? ['release_id', 'name'] : [];
}

const BODIES: Readonly<Record<string, (chance: Chance) => Record<string, unknown>>> = {
  models: (chance) => ({
    name: chance.pick(['fuzz/model', 'another', 'fuzz']),
    storage_path: chance.pick(REPOSITORIES),
    company: 'Acme',
    base_model: 'base',
    parameter_count: chance.pick([7_000_000_000, '7B', '1.5B']),
    description: 'words',
    tags: ['a', 'b'],
    metadata: { a: [1, { b: null }] },
    immutable: chance.next() < 0.3,
  }),
  aliases: (chance) => (chance.next() < 0.5 ? { digest: chance.pick(DIGESTS) } : { release_id: IDS.releases }),
  releases: (chance) => ({
    model_id: IDS.models,
    version: chance.pick(['v1', 'v2', '3.0', 'v4-rc.1']),
    quantization: chance.pick(['fp16', 'Q4_K_M', null]),
    digest: chance.pick([...DIGESTS, null]),
    release_notes: 'words',
    status: chance.pick(['draft', 'published', 'deprecated', 'withdrawn']),
    metadata: {},
  }),
  publish: (chance) => ({ digest: chance.pick(DIGESTS) }),
  deployments: (chance) => ({
    release_id: chance.pick([IDS.releases, IDS.drafts]),
    environment: chance.pick(ENVIRONMENTS),
    status: chance.pick(['active', 'pending', 'failed', 'retired']),
    endpoint: 'https://models.example',
    replicas: chance.whole(0, 5),
    metadata: {},
  }),
  artifacts: (chance) => ({
    release_id: chance.pick([IDS.releases, IDS.drafts]),
    digest: chance.pick(DIGESTS),
    name: 'b.json',
    path: chance.pick(['a/b.json', 'c.json', '../d']),
    media_type: 'application/json',
    metadata: {},
  }),
  // None of them an admin's: the fuzz goes on with the key that it has.
  'api-keys': (chance) => ({
    name: 'of the fuzz',
    grants: [{ repository: chance.pick(['fuzz/*', '**']), actions: chance.pick([['pull'], ['pull', 'push']]) }],
    read_only: chance.next() < 0.5,
    is_active: chance.next() < 0.5,
    expires_at: chance.pick([null, '2099-01-01T00:00:00Z']),
  }),
};

/** JSON that a route of the metadata API takes, of which now and then a field is missing or something else. */
export function jsonBodyOf(chance: Chance, path: string): Buffer {
  const kind = Object.keys(BODIES).findLast((name) => path.includes(`/${name}`)) ?? 'models';
  const body = BODIES[/\/(aliases|publish)/.exec(path)?.[1] ?? kind]?.(chance) ?? {};
  for (const name of Object.keys(body)) if (chance.next() < 0.25) delete body[name];
  const [field] = chance.next() < 0.5 ? [chance.pick([...Object.keys(body), 'id', '__proto__', 'created_at'])] : [];
  const wrong = chance.pick<() => unknown>([
    () => null,
    () => odd(chance),
    () => -1,
    () => 2 ** 53,
    () => [],
    () => ({ [odd(chance)]: odd(chance) }),
    () => 'a\u0000b',
    () => '\ud800',
    () => 'x'.repeat(100_000),
    () => ({ a: { b: { c: [] } } }),
  ]);
  if (field !== undefined) body[field] = wrong();
  return Buffer.from(JSON.stringify(body));
}
