import { brokenConstraint, type Queries } from '../database/connect.js';
import type { Actor } from '../actor.js';
import { isRepositoryName, parseRepositoryName, type RepositoryName } from '../oci/name.js';
import { ensureRepository } from '../registry/repositories.js';
import { parseParameterCount } from '../weights/version.js';
import { adoptTags } from './adoption.js';
import { writeAudit } from './audit.js';
import { conflict, invalidField, notFound } from './failures.js';
import { findLive } from './live.js';
import { Conditions, containing, type Page, type PageQuery, readPage, type Sort } from './pages.js';
import type { Rights } from './rights.js';
import { visibleModels } from './visible.js';

/** A model as every answer shows it. */
export interface Model {
  readonly id: string;
  readonly name: string;
  /** The repository that holds the weights. */
  readonly storage_path: RepositoryName;
  /** As older clients call it. */
  readonly repository: string;
  readonly company: string | null;
  readonly base_model: string | null;
  readonly parameter_count: number | null;
  readonly description: string | null;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly immutable: boolean;
  readonly created_by: string;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** What a caller writes of a model; absent: not said. */
export interface ModelInput {
  readonly name?: string;
  readonly storage_path?: string;
  readonly repository?: string | null;
  readonly company?: string | null;
  readonly base_model?: string | null;
  readonly parameter_count?: number | string | null;
  readonly description?: string | null;
  readonly tags?: readonly string[];
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly immutable?: boolean;
}

export interface ModelFilters {
  readonly name?: string | undefined;
  readonly company?: string | undefined;
  readonly base_model?: string | undefined;
  readonly parameter_count?: { readonly min?: number; readonly max?: number } | undefined;
  readonly quantization?: string | undefined;
  readonly version?: string | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly environment?: string | undefined;
  readonly status?: string | undefined;
  readonly q?: string | undefined;
}

/** A caller and what it may do, in a transaction that changes something. */
export interface Caller {
  readonly actor: Actor;
  readonly rights: Rights;
}

export const MODEL_COLUMNS = `m.id, m.name, m.storage_path, coalesce(m.repository, m.storage_path) as repository, m.company, m.base_model,
  m.parameter_count, m.description, m.tags, m.metadata, m.immutable, m.created_by, m.created_at, m.updated_at`;

const SORTS: Readonly<Record<string, Sort>> = {
  name: { expression: 'm.name', type: 'text' },
  created_at: { expression: 'm.created_at', type: 'timestamptz' },
  updated_at: { expression: 'm.updated_at', type: 'timestamptz' },
  company: { expression: `coalesce(m.company, '')`, type: 'text' },
  base_model: { expression: `coalesce(m.base_model, '')`, type: 'text' },
  parameter_count: { expression: 'coalesce(m.parameter_count, -1)', type: 'bigint' },
};

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Whether a text can be the id of something; names that can are refused, so that a path is never read two ways. */
export function isId(text: string): boolean {
  return UUID.test(text);
}

/** A page of the models that the caller may read. */
export async function listModels(
  queries: Queries,
  rights: Rights,
  filters: ModelFilters,
  page: PageQuery,
): Promise<Page<Model>> {
  const conditions = new Conditions()
    .add('m.id = any(?::uuid[])', await visibleModels(queries, rights))
    .add('m.name = ?', filters.name);
  addModelFilters(conditions, filters)
    .add(
      'exists (select from releases r where r.model_id = m.id and lower(r.quantization) = lower(?))',
      filters.quantization,
    )
    .add('exists (select from releases r where r.model_id = m.id and lower(r.version) = lower(?))', filters.version)
    .add('exists (select from releases r where r.model_id = m.id and r.status = ?)', filters.status)
    .add(
      `exists (select from deployments d where d.model_id = m.id and d.environment = ? and d.status = 'active')`,
      filters.environment,
    )
    .add(
      '(m.name ilike ? or m.storage_path ilike ? or m.company ilike ? or m.base_model ilike ? or m.description ilike ?)',
      filters.q === undefined ? undefined : containing(filters.q),
    );
  return await readPage<Model>(queries, page, {
    columns: MODEL_COLUMNS,
    from: 'models m',
    conditions,
    sorts: SORTS,
    defaultSort: '-created_at',
    id: 'm.id',
    idType: 'uuid',
  });
}

/** Those of a model itself, which lists of releases and deployments know as well. */
export function addModelFilters(
  conditions: Conditions,
  filters: Pick<ModelFilters, 'company' | 'base_model' | 'parameter_count' | 'tags'>,
): Conditions {
  return conditions
    .add(`coalesce(m.company, '') = ?`, filters.company)
    .add(`coalesce(m.base_model, '') = ?`, filters.base_model)
    .add('m.parameter_count >= ?', filters.parameter_count?.min)
    .add('m.parameter_count <= ?', filters.parameter_count?.max)
    .add('m.tags @> ?::jsonb', filters.tags === undefined ? undefined : JSON.stringify(filters.tags));
}

/** The model of an id or a name. @throws 'NotFound', also if the caller may not read it */
export async function getModel(queries: Queries, rights: Rights, idOrName: string): Promise<Model> {
  const [row] = await queries.query<Model>(
    isId(idOrName)
      ? `select ${MODEL_COLUMNS} from models m where m.id = $1`
      : `select ${MODEL_COLUMNS} from models m where m.name = $1`,
    [idOrName],
  );
  if (!row || !rights.maySee(row.storage_path)) throw notFound('Model');
  return row;
}

/** As `getModel`, and nobody else changes it until the transaction ends. */
export async function lockModel(
  transaction: Queries,
  rights: Rights,
  idOrName: string,
  strength: 'no key update' | 'share' = 'no key update',
): Promise<Model> {
  const { id } = await getModel(transaction, rights, idOrName);
  const [row] = await transaction.query<Model>(
    `select ${MODEL_COLUMNS} from models m where m.id = $1 for ${strength}`,
    [id],
  );
  if (!row) throw notFound('Model');
  return row;
}

/** Makes a model, and the releases of the tags that its repository has. @throws 'Conflict', 'Invalid', 'Denied' */
export async function createModel(transaction: Queries, caller: Caller, input: ModelInput): Promise<Model> {
  const fields = fieldsOf(input);
  caller.rights.require('push', fields.storage_path);
  const repository = await lockRepository(transaction, fields.storage_path);
  const model = await insertModel(transaction, fields, repository, caller.actor);
  if (!model) throw await whatIsTaken(transaction, caller.rights, fields);
  await adoptTags(transaction, { ...model, repository_id: repository }, caller.actor);
  await writeAudit(transaction, caller.actor, {
    action: 'model.create',
    resourceType: 'model',
    resourceId: model.id,
    repository: model.storage_path,
    details: { after: model },
  });
  return model;
}

/** Holds a repository alone, so that no tag comes or goes (spec/metadata.md, "Order of locks"). @returns its id */
export async function lockRepository(transaction: Queries, name: RepositoryName): Promise<number> {
  const id = await ensureRepository(transaction, name);
  await transaction.query('select from repositories where id = $1 for update', [id]);
  return id;
}

interface Fields {
  readonly name: string;
  readonly storage_path: RepositoryName;
  readonly repository: string | null;
  readonly company: string | null;
  readonly base_model: string | null;
  readonly parameter_count: number | null;
  readonly description: string | null;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly immutable: boolean;
}

/** Everything that a model has, by what was said of it; what was not said is nothing. @throws 'Invalid' */
function fieldsOf(input: ModelInput): Fields {
  const { name = '' } = input;
  if (isId(name)) throw invalidField('name', 'a name may not look like an id (a UUID)');
  const path = input.storage_path ?? input.repository ?? '';
  const field = input.storage_path === undefined ? 'repository' : 'storage_path';
  if (!isRepositoryName(path))
    throw invalidField(field, 'not a repository name: lower-case letters and digits, separated by one of . _ / or by __ or -', 'string_pattern_mismatch');
  return {
    name,
    storage_path: parseRepositoryName(path),
    repository: input.repository ?? null,
    company: input.company ?? null,
    base_model: input.base_model ?? null,
    parameter_count: countOf(input.parameter_count),
    description: input.description ?? null,
    tags: [...new Set(input.tags ?? [])],
    metadata: input.metadata ?? {},
    immutable: input.immutable ?? false,
  };
}

function countOf(value: number | string | null | undefined): number | null {
  if (value === undefined || value === null) return null;
  const count = typeof value === 'number' ? value : parseParameterCount(value);
  if (count === undefined) throw invalidField('parameter_count', 'a whole number, or one such as 7B, 1.5B or 350M');
  return count;
}

function valuesOf(fields: Fields): unknown[] {
  const { name, storage_path, repository, company, base_model, parameter_count, description, immutable } = fields;
  return [
    name,
    storage_path,
    repository,
    company,
    base_model,
    parameter_count,
    description,
    JSON.stringify(fields.tags),
    JSON.stringify(fields.metadata),
    immutable,
  ];
}

/** The new model, or undefined if its name or its repository is taken. */
async function insertModel(
  transaction: Queries,
  fields: Fields,
  repository: number,
  actor: Actor,
): Promise<Model | undefined> {
  const [row] = await transaction.query<Model>(
    `with m as (
       insert into models (name, storage_path, repository, company, base_model, parameter_count, description, tags, metadata,
                           immutable, repository_id, created_by)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing returning *)
     select ${MODEL_COLUMNS} from m`,
    [...valuesOf(fields), repository, actor.key],
  );
  return row;
}

const MAX_NAME = 255;

/**
 * Makes the model of a repository in which somebody pushed what looks like one, named after it; a name that is taken gets a
 * number. The caller holds the repository alone. @returns undefined if another model has the repository.
 */
export async function createModelOf(
  transaction: Queries,
  repository: { readonly id: number; readonly name: RepositoryName },
  actor: Actor,
): Promise<Model | undefined> {
  for (let attempt = 1; ; attempt++) {
    const suffix = attempt === 1 ? '' : `-${attempt}`;
    const name = `${repository.name.slice(0, MAX_NAME - suffix.length)}${suffix}`;
    const fields = fieldsOf({ name: isId(name) ? `model-${name}` : name, storage_path: repository.name });
    const model = await insertModel(transaction, fields, repository.id, actor);
    if (model) return model;
    const taken = await transaction.query('select from models where repository_id = $1', [repository.id]);
    if (taken.length > 0) return undefined;
  }
}

async function whatIsTaken(queries: Queries, rights: Rights, fields: { name: string; storage_path: string }, except?: string) {
  const rows = await queries.query<{ id: string; name: string; storage_path: string }>(
    'select id, name, storage_path from models where (name = $1 or storage_path = $2) and id <> coalesce($3::uuid, gen_random_uuid())',
    [fields.name, fields.storage_path, except ?? null],
  );
  const field = rows.some((row) => row.storage_path === fields.storage_path) ? 'storage_path' : 'name';
  return conflict(
    field === 'name' ? 'Another model has this name' : 'Another model has this repository',
    // What one may not read is not shown; that the name is taken can't be hidden.
    rows.filter((row) => rights.maySee(row.storage_path)).map(({ id, name }) => ({ type: 'model', id, name })),
  );
}

/** Changes a model: all of it (`'replace'`, PUT), or what is said (`'merge'`, PATCH). @throws 'Conflict', 'Invalid' */
export async function changeModel(
  transaction: Queries,
  caller: Caller,
  before: Model,
  input: ModelInput,
  how: 'replace' | 'merge',
): Promise<Model> {
  caller.rights.require('push', before.storage_path);
  const merged = how === 'merge' ? mergeModel(before, input) : input;
  const fields = fieldsOf(merged);
  const moves = fields.storage_path !== before.storage_path;
  if (moves) await checkMove(transaction, caller, before, fields.storage_path);
  const repository = moves ? await lockRepository(transaction, fields.storage_path) : undefined;
  const after = await updateModel(transaction, before.id, fields, repository).catch(async (error: unknown) => {
    if (!['models_name', 'models_storage_path', 'models_repository_one'].includes(brokenConstraint(error) ?? '')) throw error;
    throw conflict('Another model has this name or this repository');
  });
  if (repository !== undefined) await adoptTags(transaction, { ...after, repository_id: repository }, caller.actor);
  await writeAudit(transaction, caller.actor, {
    action: 'model.update',
    resourceType: 'model',
    resourceId: after.id,
    repository: after.storage_path,
    details: { before, after },
  });
  return after;
}

function mergeModel(before: Model, input: ModelInput): ModelInput {
  const { storage_path, repository } = input;
  // An older client that says only `repository` means the path.
  const path = storage_path ?? (repository && repository !== before.repository ? repository : before.storage_path);
  return { ...before, ...input, storage_path: path };
}

async function checkMove(transaction: Queries, caller: Caller, before: Model, path: RepositoryName): Promise<void> {
  caller.rights.require('push', path);
  const releases = await transaction.query<{ id: string; tag: string }>(
    'select id, tag from releases where model_id = $1 order by created_at limit 10',
    [before.id],
  );
  if (releases.length === 0) return;
  throw conflict(
    'The repository of a model that has releases can\'t be changed',
    releases.map(({ id, tag }) => ({ type: 'release', id, tag })),
  );
}

async function updateModel(
  transaction: Queries,
  id: string,
  fields: Fields,
  repository: number | undefined,
): Promise<Model> {
  const [row] = await transaction.query<Model>(
    `with m as (
       update models set name = $1, storage_path = $2, repository = $3, company = $4, base_model = $5, parameter_count = $6,
              description = $7, tags = $8, metadata = $9, immutable = $10, repository_id = coalesce($11, repository_id),
              updated_at = now() where id = $12 returning *)
     select ${MODEL_COLUMNS} from m`,
    [...valuesOf(fields), repository ?? null, id],
  );
  if (!row) throw notFound('Model');
  return row;
}

/**
 * Removes a model with its releases and their tags; what else its repository holds stays. `removeTags` is the registry's.
 * @throws 'Conflict' while a deployment of it is live, unless an admin forces it.
 */
export async function removeModel(
  transaction: Queries,
  caller: Caller,
  model: Model,
  force: boolean,
  removeTags: (repository: RepositoryName, id: number) => Promise<void>,
): Promise<void> {
  caller.rights.require('delete', model.storage_path);
  if (force) caller.rights.requireAdmin();
  const repository = await lockRepository(transaction, model.storage_path);
  await transaction.query('select from models where id = $1 for update', [model.id]);
  const live = force ? [] : await findLive(transaction, { model: model.id });
  if (live.length > 0) throw conflict('Deployments of this model are live', live);
  await removeTags(model.storage_path, repository);
  await transaction.query('delete from models where id = $1', [model.id]);
  await writeAudit(transaction, caller.actor, {
    action: 'model.delete',
    resourceType: 'model',
    resourceId: model.id,
    repository: model.storage_path,
    details: { before: model, ...(force ? { forced: true } : {}) },
  });
}
