import type { Queries } from '../database/connect.js';
import {
  Conditions,
  containing,
  type Page,
  pageByName,
  type PageQuery,
  parseNameCursor,
  readPage,
  type Sort,
} from '../database/pages.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { addFew, addModels, areFew, chooseModels, type ModelChoice } from './chosen-models.js';
import { notFound } from './failures.js';
import { isId } from './models.js';
import { addVersion, HAS_QUANTIZATION, versionPlace } from './release-filters.js';
import type { Rights } from './rights.js';
import { visibleModels } from './visible.js';

export type DeploymentStatus = 'pending' | 'active' | 'superseded' | 'failed' | 'retired';

/** A deployment as every answer shows it. */
export interface Deployment {
  readonly id: string;
  readonly release_id: string;
  readonly model_id: string;
  readonly model_name: string;
  /** Of the release, as it is now. */
  readonly version: string;
  readonly quantization: string | null;
  readonly tag: string;
  /** Of the manifest that runs, whatever the tag means by now. */
  readonly digest: Digest;
  readonly environment: string;
  readonly status: DeploymentStatus;
  readonly endpoint: string | null;
  readonly replicas: number | null;
  readonly deployed_by: string;
  /** When it last became active; null: never. */
  readonly deployed_at: Date | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** What became of a deployment. */
export interface DeploymentEvent {
  /** Null: it was created. */
  readonly previous: DeploymentStatus | null;
  readonly status: DeploymentStatus;
  readonly actor: string;
  readonly at: Date;
}

export const DEPLOYMENT_COLUMNS = `d.id, d.release_id, d.model_id, m.name as model_name, r.version, r.quantization, r.tag, d.digest, d.environment,
  d.status, d.endpoint, d.replicas, d.deployed_by, d.deployed_at, d.metadata, d.created_at, d.updated_at`;
export const DEPLOYMENT_FROM =
  'deployments d join releases r on r.id = d.release_id join models m on m.id = d.model_id';

export interface DeploymentFilters extends ModelChoice {
  readonly release_id?: string | undefined;
  readonly environment?: string | undefined;
  readonly status?: string | undefined;
  readonly quantization?: string | undefined;
  readonly version?: string | undefined;
  readonly q?: string | undefined;
}

const SORTS: Readonly<Record<string, Sort>> = {
  created_at: { expression: 'd.created_at', type: 'timestamptz' },
  updated_at: { expression: 'd.updated_at', type: 'timestamptz' },
  environment: { expression: 'd.environment', type: 'text' },
  status: { expression: 'd.status', type: 'text' },
};

/** What is looked through for a text, as the index has it. */
const TEXT = `((coalesce(d.endpoint, '') || E'\\n' || d.environment) collate "default")`;

const IS_ACTIVE = 'select a.id from deployments a where a.status = ?';

/** A page of the deployments that the caller may read. */
export async function listDeployments(
  queries: Queries,
  rights: Rights,
  filters: DeploymentFilters,
  page: PageQuery,
): Promise<Page<Deployment>> {
  const models = await chooseModels(queries, rights, filters);
  const conditions = addModels(new Conditions(), 'd.model_id', models)
    .add('d.release_id = ?::uuid', filters.release_id)
    .add('d.environment = ?', filters.environment)
    .add(HAS_QUANTIZATION, filters.quantization)
    .add(`${TEXT} ilike ?`, filters.q === undefined ? undefined : containing(filters.q));
  addVersion(conditions, versionPlace(filters.version), models);
  // At most one of each model and environment; of all models together they are many.
  if (filters.status === 'active' && areFew(models))
    addFew(conditions, 'd.id', IS_ACTIVE, filters.status, 'a.model_id', models);
  else conditions.add('d.status = ?', filters.status);
  return await readPage<Deployment>(queries, page, {
    columns: DEPLOYMENT_COLUMNS,
    from: DEPLOYMENT_FROM,
    conditions,
    sorts: SORTS,
    defaultSort: '-created_at',
    id: 'd.id',
    idType: 'uuid',
  });
}

/** @throws 'NotFound', also if the caller may not read it */
export async function getDeployment(queries: Queries, rights: Rights, id: string): Promise<Deployment> {
  const { deployment } = await getWithRepository(queries, rights, id);
  return deployment;
}

export async function getWithRepository(
  queries: Queries,
  rights: Rights,
  id: string,
): Promise<{ deployment: Deployment; repository: RepositoryName }> {
  const [row] = isId(id)
    ? await queries.query<Deployment & { repository: RepositoryName }>(
        `select ${DEPLOYMENT_COLUMNS}, m.storage_path as repository from ${DEPLOYMENT_FROM} where d.id = $1`,
        [id],
      )
    : [];
  if (!row || !rights.maySee(row.repository)) throw notFound('Deployment');
  const { repository, ...deployment } = row;
  return { deployment, repository };
}

/** What became of a deployment, the newest first. */
export async function listDeploymentEvents(
  queries: Queries,
  deployment: string,
  page: PageQuery,
): Promise<Page<DeploymentEvent>> {
  return await readPage<DeploymentEvent>(queries, page, {
    columns: 'e.previous, e.status, e.actor, e.at',
    from: 'deployment_events e',
    conditions: new Conditions().add('e.deployment_id = ?::uuid', deployment),
    sorts: { at: { expression: 'e.id', type: 'bigint' } },
    defaultSort: '-at',
    id: 'e.id',
    idType: 'bigint',
  });
}

/** An environment, and how many deployments of what the caller may read are active in it. */
export interface Environment {
  readonly name: string;
  readonly active: number;
  readonly deployments: number;
}

/** Names by leaps through the index, from one on, and what it holds of each. */
const environmentsFrom = (visible: boolean) =>
  `with recursive names (name) as (
     select min(environment) from deployments where environment > $1
     union all
     select (select min(environment) from deployments where environment > names.name) from names where names.name is not null)
   select name, active, deployments from names, lateral (
       select count(*) filter (where status = 'active') as active, count(*) as deployments
         from deployments d where d.environment = names.name ${visible ? 'and d.model_id = any($2::uuid[])' : ''}) counted
    where deployments > 0`;

/** A page of the environments that have deployments which the caller may read, by name. */
export async function listEnvironments(queries: Queries, rights: Rights, page: PageQuery): Promise<Page<Environment>> {
  const visible = await visibleModels(queries, rights);
  const statement = environmentsFrom(visible !== undefined);
  const more = visible ? [visible] : [];
  const rows = await queries.query<Environment>(
    `${statement} order by name limit ${page.limit + 1}`,
    [parseNameCursor('environments', page.cursor), ...more],
    { prepare: false },
  );
  const named = pageByName('environments', rows, page.limit);
  if (!page.total) return named;
  const [counted] = await queries.query<{ total: number }>(
    `select count(*) as total from (${statement}) e`,
    ['', ...more],
    {
      prepare: false,
    },
  );
  return { ...named, total: counted?.total ?? 0 };
}
