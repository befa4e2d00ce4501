import { isFailure } from '../errors.js';
import type { Queries } from '../database/connect.js';
import { Conditions, type Page, pageByName, type PageQuery, parseNameCursor, readPage } from '../database/pages.js';
import type { Digest } from '../oci/digest.js';
import { parseTag, type Tag } from '../oci/name.js';
import { findRepository } from '../registry/repositories.js';
import { removeTags } from '../registry/tag-rows.js';
import { readTag } from '../weights/tag.js';
import { writeAudit } from './audit.js';
import { conflict, digestField, faultsOf, invalid, invalidField, notFound } from './failures.js';
import { getModel, type Model } from './models.js';
import { checkThere, putTag } from './put-tag.js';
import { getRelease } from './releases.js';
import type { Caller, Rights } from './rights.js';

/** A tag that is no release, as it is shown: what it names, and which release that is. */
export interface Alias {
  readonly name: string;
  readonly digest: Digest;
  /** Null: the digest has no release in this model. */
  readonly release_id: string | null;
  readonly version: string | null;
  readonly quantization: string | null;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** What an alias named, when, by whom. */
export interface AliasEvent {
  /** Null: it was removed. */
  readonly digest: Digest | null;
  readonly previous: Digest | null;
  readonly actor: string;
  readonly at: Date;
}

const SELECT = `select t.name, t.digest, r.id as release_id, r.version, r.quantization, t.created_at, t.updated_at
  from models m join tags t on t.repository = m.repository_id
  left join lateral (select id, version, quantization from releases where model_id = m.id and digest = t.digest
                      order by created_at, id limit 1) r on true`;

/** Passes over all tags that begin as versions do, by the index over the others; releases among those are few. */
const IS_WORD = `t.name !~ '^[vV]?[0-9]'`;

/** A page of a model's aliases, by name. Releases among the tags are passed over. */
export async function listAliases(queries: Queries, model: string, page: PageQuery): Promise<Page<Alias>> {
  const { limit, cursor, total } = page;
  const found: Alias[] = [];
  let last = parseNameCursor('aliases', cursor);
  for (;;) {
    const rows = await queries.query<Alias>(
      `${SELECT} where m.id = $1 and ${IS_WORD} and t.name > $2 order by t.name limit $3`,
      [model, last, limit + 1],
    );
    found.push(...rows.filter((row) => readTag(row.name).kind === 'alias'));
    if (found.length > limit || rows.length <= limit) break;
    last = rows.at(-1)?.name ?? '';
  }
  const counted = total ? { total: await countAliases(queries, model) } : {};
  return { ...pageByName('aliases', found, limit), ...counted };
}

async function countAliases(queries: Queries, model: string): Promise<number> {
  const rows = await queries.query<{ name: string }>(
    `select t.name from models m join tags t on t.repository = m.repository_id where m.id = $1 and ${IS_WORD}`,
    [model],
  );
  return rows.filter((row) => readTag(row.name).kind === 'alias').length;
}

/** @throws 'NotFound' */
export async function getAlias(queries: Queries, model: string, name: string): Promise<Alias> {
  const [row] =
    isTag(name) && readTag(name).kind === 'alias'
      ? await queries.query<Alias>(`${SELECT} where m.id = $1 and t.name = $2`, [model, name])
      : [];
  if (!row) throw notFound('Alias');
  return row;
}

/** What an alias named over time, the newest first; also of one that is gone. */
export async function listAliasEvents(
  queries: Queries,
  model: string,
  name: string,
  page: PageQuery,
): Promise<Page<AliasEvent>> {
  return await readPage<AliasEvent>(queries, page, {
    columns: 'e.digest, e.previous, e.actor, e.at',
    from: 'tag_events e',
    conditions: new Conditions()
      .add('e.repository = (select repository_id from models where id = ?)', model)
      .add('e.name = ?', name),
    sorts: { at: { expression: 'e.id', type: 'bigint' } },
    defaultSort: '-at',
    id: 'e.id',
    idType: 'bigint',
  });
}

/** What an alias is to name: one of them. */
export interface AliasTarget {
  readonly digest?: string;
  readonly release_id?: string;
}

/**
 * Makes or moves an alias in one step. @returns it, its model's id, and whether it is new.
 * @throws 'Invalid' for a name that would be a release or is no tag, or a target that is not there
 */
export async function putAlias(
  transaction: Queries,
  caller: Caller,
  idOrName: string,
  name: string,
  target: AliasTarget,
): Promise<{ alias: Alias; model: string; made: boolean }> {
  const model = await getModel(transaction, caller.rights, idOrName);
  caller.rights.require('deploy', model.storage_path);
  const repository_id = await holdPlace(transaction, caller.rights, model);
  const place = { repository_id, name: model.storage_path };
  const faults = await faultsOf(
    () => checkName(name),
    async () => await checkThere(transaction, place, await digestOfTarget(transaction, caller.rights, model, target)),
  );
  if (faults.length > 0) throw invalid(...faults);
  const before = await lockAlias(transaction, model, name);
  caller.expect(before ?? {});
  const digest = await digestOfTarget(transaction, caller.rights, model, target);
  const { moved, previous } = await putTag(transaction, caller, place, parseTag(name), digest);
  // Somebody made it meanwhile.
  if (!before && previous !== null) caller.expect({ name });
  const alias = await getAlias(transaction, model.id, name);
  if (moved) await audit(transaction, caller, model, name, 'alias.set', { before: before ?? null, after: alias });
  return { alias, model: model.id, made: previous === null };
}

/** @throws 'NotFound' */
export async function removeAlias(transaction: Queries, caller: Caller, idOrName: string, name: string): Promise<void> {
  const model = await getModel(transaction, caller.rights, idOrName);
  caller.rights.require('deploy', model.storage_path);
  const repository = await holdPlace(transaction, caller.rights, model);
  const before = await lockAlias(transaction, model, name);
  if (!before) throw notFound('Alias');
  caller.expect(before);
  for (const gone of await removeTags(transaction, repository, [name], caller.actor))
    await caller.record(transaction, { kind: 'tag-removed', repository: model.storage_path, ...gone });
  await audit(transaction, caller, model, name, 'alias.delete', { before, after: null });
}

/** Holds a model's repository: it is not given another one until the transaction ends. @throws 'Conflict' if it was */
async function holdPlace(transaction: Queries, rights: Rights, seen: Model): Promise<number> {
  const repository = (await findRepository(transaction, seen.storage_path)) ?? 0;
  const { storage_path } = await getModel(transaction, rights, seen.id);
  if (storage_path !== seen.storage_path) throw conflict('The model was given another repository meanwhile');
  return repository;
}

async function lockAlias(transaction: Queries, model: Model, name: string): Promise<Alias | undefined> {
  if (!isTag(name) || readTag(name).kind !== 'alias') return undefined;
  const [row] = await transaction.query<Alias>(`${SELECT} where m.id = $1 and t.name = $2 for update of t`, [
    model.id,
    name,
  ]);
  return row;
}

function checkName(name: string): asserts name is Tag {
  const loc = ['path', 'alias'];
  if (!isTag(name))
    throw invalid({ loc, msg: 'not a tag: 1 to 128 of letters, digits, _ . and -', type: 'string_pattern_mismatch' });
  if (readTag(name).kind !== 'alias')
    throw invalid({ loc, msg: `the tag ${name} is a release's, or another tool's`, type: 'value_error' });
}

async function digestOfTarget(queries: Queries, rights: Rights, model: Model, target: AliasTarget): Promise<Digest> {
  if ((target.digest === undefined) === (target.release_id === undefined))
    throw invalid({ loc: ['body'], msg: 'one of digest and release_id is needed', type: 'value_error' });
  if (target.digest !== undefined) return digestField(target.digest);
  const release = await getRelease(queries, rights, target.release_id ?? '').catch((error: unknown) => {
    if (isFailure(error, 'NotFound')) return undefined;
    throw error;
  });
  if (release?.model_id !== model.id) throw invalidField('release_id', 'no release of this model');
  if (release.digest === null) throw invalidField('release_id', 'a draft has no digest');
  return release.digest;
}

function isTag(name: string): name is Tag {
  try {
    parseTag(name);
    return true;
  } catch {
    return false;
  }
}

async function audit(
  transaction: Queries,
  caller: Caller,
  model: Model,
  name: string,
  action: string,
  details: Readonly<Record<string, unknown>>,
): Promise<void> {
  await writeAudit(transaction, caller.actor, {
    action,
    resourceType: 'alias',
    resourceId: `${model.id}/${name}`,
    repository: model.storage_path,
    details,
  });
}
