import { isDeepStrictEqual } from 'node:util';
import type { Actor } from '../actor.js';
import { brokenConstraint, type Queries } from '../database/connect.js';
import { isRepositoryName, type RepositoryName } from '../oci/name.js';
import { ensureRepository } from '../registry/repositories.js';
import { removeTags } from '../registry/tag-rows.js';
import { readTag } from '../weights/tag.js';
import { parseParameterCount } from '../weights/parameters.js';
import { adoptTags } from './adoption.js';
import { releaseBlobs } from './artifact-rows.js';
import { writeAudit } from './audit.js';
import { conflict, invalidField, notFound } from './failures.js';
import { ALL, findAll, findLive, SHOWN } from './live.js';
import {
  getModel,
  isId,
  lockModel,
  type Model,
  MODEL_COLUMNS,
  type ModelInput,
  type ModelRetention,
} from './models.js';
import type { Caller, Rights } from './rights.js';

/** Makes a model, and the releases of the tags that its repository has. @throws 'Conflict', 'Invalid', 'Denied' */
export async function createModel(transaction: Queries, caller: Caller, input: ModelInput): Promise<Model> {
  const fields = fieldsOf(input);
  caller.rights.require('push', fields.storage_path);
  if (fields.retention !== null) caller.rights.require('delete', fields.storage_path);
  const repository = await lockRepository(transaction, fields.storage_path);
  const model = await insertModel(transaction, fields, repository, caller.actor);
  if (!model) {
    await refuseTaken(transaction, caller.rights, fields);
    throw conflict('Another model has this name or this repository');
  }
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
  return await ensureRepository(transaction, name, 'update');
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
  readonly retention: ModelRetention | null;
}

/** Everything that a model has, by what was said of it; what was not said is nothing. @throws 'Invalid' */
function fieldsOf(input: ModelInput): Fields {
  const { name = '' } = input;
  if (isId(name)) throw invalidField('name', 'a name may not look like an id (a UUID)');
  const path = input.storage_path ?? input.repository ?? '';
  const field = input.storage_path === undefined ? 'repository' : 'storage_path';
  if (!isRepositoryName(path))
    throw invalidField(
      field,
      'not a repository name: lower-case letters and digits, separated by one of . _ / or by __ or -',
      'string_pattern_mismatch',
    );
  return {
    name,
    storage_path: path,
    repository: input.repository ?? null,
    company: input.company ?? null,
    base_model: input.base_model ?? null,
    parameter_count: countOf(input.parameter_count),
    description: input.description ?? null,
    tags: [...new Set(input.tags ?? [])],
    metadata: input.metadata ?? {},
    immutable: input.immutable ?? false,
    retention: input.retention ?? null,
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
    fields.retention && JSON.stringify(fields.retention),
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
                           immutable, retention, repository_id, created_by)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) on conflict do nothing returning *)
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

/** @throws 'Conflict' if another model than `except` has the name or the repository */
async function refuseTaken(
  queries: Queries,
  rights: Rights,
  fields: { name: string; storage_path: string },
  except?: string,
): Promise<void> {
  const rows = await queries.query<{ id: string; name: string; storage_path: string }>(
    'select id, name, storage_path from models where (name = $1 or storage_path = $2) and id <> coalesce($3::uuid, gen_random_uuid())',
    [fields.name, fields.storage_path, except ?? null],
  );
  if (rows.length === 0) return;
  const field = rows.some((row) => row.storage_path === fields.storage_path) ? 'storage_path' : 'name';
  throw conflict(
    field === 'name' ? 'Another model has this name' : 'Another model has this repository',
    // What one may not read is not shown; that the name is taken can't be hidden.
    rows.filter((row) => rights.maySee(row.storage_path)).map(({ id, name }) => ({ type: 'model', id, name })),
  );
}

/** Changes a model: all of it (`'replace'`, PUT), or what is said (`'merge'`, PATCH). @throws 'Conflict', 'Invalid' */
export async function changeModel(
  transaction: Queries,
  caller: Caller,
  idOrName: string,
  input: ModelInput,
  how: 'replace' | 'merge',
): Promise<Model> {
  const seen = await getModel(transaction, caller.rights, idOrName);
  caller.rights.require('push', seen.storage_path);
  const { storage_path } = fieldsOf(how === 'merge' ? mergeModel(seen, input) : input);
  const repository = await lockMove(transaction, caller, seen.storage_path, storage_path);
  const before = await lockModel(transaction, seen);
  caller.expect(before);
  if (repository !== undefined) await checkMove(transaction, before);
  const fields = { ...fieldsOf(how === 'merge' ? mergeModel(before, input) : input), storage_path };
  // By a rule one has the registry delete.
  if (!isDeepStrictEqual(fields.retention, before.retention)) caller.rights.require('delete', storage_path);
  await refuseTaken(transaction, caller.rights, fields, before.id);
  const after = await updateModel(transaction, before.id, fields, repository).catch(async (error: unknown) => {
    if (!['models_name', 'models_storage_path', 'models_repository_one'].includes(brokenConstraint(error) ?? ''))
      throw error;
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
  // One that nobody said is shown as the path, and moves with it.
  const said = before.repository === before.storage_path ? null : before.repository;
  return { ...before, repository: said, ...input, storage_path: path };
}

/** Holds both repositories alone, in one order: a push into the old one is over, or comes after. @returns the new one's id */
async function lockMove(
  transaction: Queries,
  caller: Caller,
  from: RepositoryName,
  to: RepositoryName,
): Promise<number | undefined> {
  if (from === to) return undefined;
  caller.rights.require('push', to);
  let repository: number | undefined;
  for (const name of [from, to].sort()) {
    const id = await lockRepository(transaction, name);
    if (name === to) repository = id;
  }
  return repository;
}

async function checkMove(transaction: Queries, before: Model): Promise<void> {
  const releases = await transaction.query<{ id: string; tag: string }>(
    'select id, tag from releases where model_id = $1 order by created_at limit 10',
    [before.id],
  );
  if (releases.length === 0) return;
  throw conflict(
    "The repository of a model that has releases can't be changed",
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
              description = $7, tags = $8, metadata = $9, immutable = $10, retention = $11,
              repository_id = coalesce($12, repository_id), updated_at = now() where id = $13 returning *)
     select ${MODEL_COLUMNS} from m`,
    [...valuesOf(fields), repository ?? null, id],
  );
  if (!row) throw notFound('Model');
  return row;
}

/**
 * Removes a model with its releases, their tags, and the aliases of what they were; what else its repository holds stays.
 * @throws 'Conflict' while a deployment of it is live, unless an admin forces it.
 */
export async function removeModel(
  transaction: Queries,
  caller: Caller,
  idOrName: string,
  force: boolean,
): Promise<void> {
  const seen = await getModel(transaction, caller.rights, idOrName);
  caller.rights.require('delete', seen.storage_path);
  if (force) caller.rights.requireAdmin();
  const repository = await lockRepository(transaction, seen.storage_path);
  const model = await lockModel(transaction, seen, 'update');
  caller.expect(model);
  const live = await findLive(transaction, { model: model.id }, force ? ALL : SHOWN);
  if (live.length > 0 && !force) throw conflict('Deployments of this model are live', live);
  const deployments = await findAll(transaction, { model: model.id });
  const tags = await releaseTags(transaction, model.id, repository);
  const removed = await removeTags(transaction, repository, tags, caller.actor);
  for (const gone of removed)
    await caller.record(transaction, { kind: 'tag-removed', repository: model.storage_path, ...gone });
  await releaseBlobs(transaction, { model: model.id });
  await transaction.query('delete from models where id = $1', [model.id]);
  await writeAudit(transaction, caller.actor, {
    action: 'model.delete',
    resourceType: 'model',
    resourceId: model.id,
    repository: model.storage_path,
    details: { before: model, tags: removed, deployments, ...(force ? { forced: live } : {}) },
  });
}

/** The tags that mean releases, in every spelling, and those that name what a release is. */
async function releaseTags(transaction: Queries, model: string, repository: number): Promise<string[]> {
  const rows = await transaction.query<{ name: string; released: boolean }>(
    `select t.name, exists (select from releases r where r.model_id = $2 and r.digest = t.digest) as released
       from tags t where t.repository = $1 order by t.name`,
    [repository, model],
  );
  return rows.filter((row) => row.released || readTag(row.name).kind === 'release').map((row) => row.name);
}
