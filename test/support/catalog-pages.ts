// Every list of the metadata API in every order and with every filter, over the database of catalog.ts.
import { createHash } from 'node:crypto';
import type { Queries } from '../../src/database/connect.js';
import { listAliases, listAliasEvents } from '../../src/metadata/aliases.js';
import { type ArtifactFilters, listArtifacts } from '../../src/metadata/artifacts.js';
import { type DeploymentFilters, listDeploymentEvents, listDeployments } from '../../src/metadata/deployments.js';
import { listEvents } from '../../src/metadata/events.js';
import { listModels, type ModelFilters } from '../../src/metadata/models.js';
import type { Page, PageQuery } from '../../src/metadata/pages.js';
import { listReleases, type ReleaseFilters } from '../../src/metadata/releases.js';
import type { Rights } from '../../src/metadata/rights.js';
import type { RepositoryName } from '../../src/oci/name.js';
import { ENVIRONMENTS, idOf, repositoryOf } from './catalog.js';

/** One list with one filter in one order. */
export interface ListCase {
  readonly list: string;
  readonly name: string;
  read(queries: Queries, rights: Rights, page: PageQuery): Promise<Page<object>>;
}

const ADMIN = { maySee: () => true, require: () => undefined, requireAdmin: () => undefined };
export const EVERYTHING: Rights = { seesAll: true, ...ADMIN };
/** Thirty models, the largest among them. */
const few = new Set(Array.from({ length: 30 }, (_, n) => repositoryOf(1 + n * 33)));
export const THIRTY_MODELS: Rights = { ...ADMIN, seesAll: false, maySee: (repository) => few.has(repository) };
/** All but the largest. */
export const OTHER_MODELS: Rights = {
  ...ADMIN,
  seesAll: false,
  maySee: (repository) => repository !== repositoryOf(1),
};

const digestOf = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;

const COMPANY = { company: ['company-7', 'The Largest', 'nobody'] };
const OF_MODELS = {
  ...COMPANY,
  base_model: ['base-3'],
  parameter_count: ['7B', '>=50B', '>=99B', '3B..4B'],
  tags: [['tag-3'], ['rare-17'], ['tag-3', 'rare-13']],
};
const OF_RELEASES = { quantization: ['FP16', 'tq1_0', 'nf4'], version: ['v0.0', 'V12.34', 'v99'] };
const MODEL = [idOf('models', 1), 'model-1', 'model-777'];

const MODEL_FILTERS = {
  ...OF_MODELS,
  ...OF_RELEASES,
  name: ['model-500'],
  environment: ['prod', 'moon'],
  status: ['published', 'draft', 'withdrawn'],
  q: ['model-77', 'MODEL', '7/m', 'absent'],
};
const RELEASE_FILTERS = {
  ...OF_MODELS,
  ...OF_RELEASES,
  model: MODEL,
  environment: ['prod', 'moon'],
  status: ['published', 'deprecated', 'draft', 'withdrawn'],
  digest: [digestOf('12345')],
  q: ['v12.3', 'V7.', '2.5', 'What is NEW', 'q4_k_m', 'tq1', 'absent'],
};
const DEPLOYMENT_FILTERS = {
  ...OF_MODELS,
  ...OF_RELEASES,
  model: MODEL,
  release_id: [idOf('releases', 500)],
  environment: ['prod', 'moon'],
  status: ['active', 'pending', 'superseded', 'failed', 'retired'],
  q: ['prod.example', 'HTTPS', 'org/77', '/77', 'absent'],
};
const ARTIFACT_FILTERS = {
  model: MODEL,
  kind: ['layer', 'attached'],
  format: ['safetensors', 'onnx', 'gguf'],
  digest: [digestOf(`model.safetensors${idOf('releases', 77)}`)],
  q: ['config', 'README', 'report', '.saf', 'absent'],
};

type Read = (
  queries: Queries,
  rights: Rights,
  filters: Record<string, unknown>,
  page: PageQuery,
) => Promise<Page<object>>;

/** A list in both ways of each order, and in each order with each value of each filter alone. */
function* casesOf(list: string, sorts: readonly string[], filters: Record<string, unknown[]>, read: Read) {
  const inOrder = (sort: string, filter: string, value?: unknown): ListCase => ({
    list,
    name: `${list} by ${sort}${filter === '' ? '' : `, ${filter} ${JSON.stringify(value)}`}`,
    read: (queries, rights, page) => read(queries, rights, { [filter]: value }, { ...page, sort }),
  });
  for (const sort of sorts) {
    yield inOrder(sort, '');
    yield inOrder(sort.startsWith('-') ? sort.slice(1) : `-${sort}`, '');
    for (const [filter, values] of Object.entries(filters))
      for (const value of values) yield inOrder(sort, filter, value);
  }
}

const TIMES = ['-created_at', '-updated_at'];
const RELEASE_SORTS = [...TIMES, '-version', 'size_bytes'];

/** All of them; those that go by fields first, then those of one thing. */
export function listCases(): ListCase[] {
  const one = (name: string, read: (queries: Queries, rights: Rights, page: PageQuery) => Promise<Page<object>>) => ({
    list: name,
    name,
    read,
  });
  return [
    ...casesOf('models', [...TIMES, 'name', 'company', 'base_model', '-parameter_count'], MODEL_FILTERS, (q, r, f, p) =>
      listModels(q, r, f as ModelFilters, p),
    ),
    ...casesOf('releases', RELEASE_SORTS, RELEASE_FILTERS, (q, r, f, p) => listReleases(q, r, f as ReleaseFilters, p)),
    ...casesOf('releases', ['quantization', 'status'], {}, (q, r, f, p) => listReleases(q, r, f as ReleaseFilters, p)),
    ...casesOf('deployments', ['environment', 'status'], {}, (q, r, f, p) =>
      listDeployments(q, r, f as DeploymentFilters, p),
    ),
    ...casesOf(
      'releases of the largest model',
      RELEASE_SORTS,
      { ...OF_RELEASES, status: RELEASE_FILTERS.status, environment: ['prod', 'moon'] },
      (q, r, f, p) => listReleases(q, r, { ...(f as ReleaseFilters), model: idOf('models', 1) }, p),
    ),
    ...casesOf('deployments', TIMES, DEPLOYMENT_FILTERS, (q, r, f, p) =>
      listDeployments(q, r, f as DeploymentFilters, p),
    ),
    ...casesOf('artifacts', ['-created_at'], ARTIFACT_FILTERS, (q, r, f, p) =>
      listArtifacts(q, r, f as ArtifactFilters, p),
    ),
    ...ENVIRONMENTS.slice(0, 2).map((environment) =>
      one(`what is active in ${environment}`, (q, r, p) => listDeployments(q, r, { environment, status: 'active' }, p)),
    ),
    one('artifacts of a release', (q, r, p) => listArtifacts(q, r, { release_id: idOf('releases', 42) }, p)),
    one('deployments of a release', (q, r, p) => listDeployments(q, r, { release_id: idOf('releases', 42) }, p)),
    one('aliases of the largest model', (q, _, p) => listAliases(q, idOf('models', 1), p)),
    one('history of an alias', (q, _, p) => listAliasEvents(q, idOf('models', 1), 'latest', p)),
    one('history of a deployment', (q, _, p) => listDeploymentEvents(q, idOf('deployments', 1), p)),
    one('events of the largest model', (q, _, p) => listEvents(q, repositoryOf(1) as RepositoryName, p)),
    one('events of a model', (q, _, p) => listEvents(q, repositoryOf(777) as RepositoryName, p)),
  ];
}
