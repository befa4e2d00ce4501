import { brokenConstraint, type Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName, Tag } from '../oci/name.js';
import { findRepository } from '../registry/repositories.js';
import { removeTags } from '../registry/tag-rows.js';
import { putTag } from './put-tag.js';
import { spellings } from '../weights/tag.js';
import { versionOrder } from '../weights/version.js';
import { releaseBlobs } from './artifact-rows.js';
import { writeAudit } from './audit.js';
import { conflict, digestField, faultsOf, invalid, invalidField, notFound } from './failures.js';
import { ALL, findAll, findLive, SHOWN } from './live.js';
import { getModel, lockModel, type Model } from './models.js';
import { identityOf, type ReleaseNames } from './release-identity.js';
import { storedContent } from './release-content.js';
import { findRelease, type FollowedModel, type ReleaseTag, setNewestRelease } from './release-rows.js';
import { getRelease, type Release } from './releases.js';
import type { Caller } from './rights.js';

/** What a caller writes of a release; absent: not said. */
export interface ReleaseInput extends ReleaseNames {
  readonly digest?: string | null;
  readonly release_notes?: string | null;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly status?: Release['status'];
}

/** Makes a release: a draft, or, with a digest, one whose tag is put. @throws 'Conflict', 'Invalid', 'Denied', 'NotFound' */
export async function createRelease(
  transaction: Queries,
  caller: Caller,
  model: string,
  input: ReleaseInput,
): Promise<Release> {
  const seen = await getModel(transaction, caller.rights, model);
  caller.rights.require('push', seen.storage_path);
  // The repository first, as whoever pushes the same tag.
  const repository = await findRepository(transaction, seen.storage_path);
  const digest = typeof input.digest === 'string' ? digestField(input.digest) : undefined;
  const faults = await faultsOf(
    () => identityOf(input),
    () => checkStatus(input, digest === undefined ? ['draft'] : ['published', 'deprecated']),
    () => digest && contentToRelease(transaction, repository ?? 0, digest),
  );
  if (faults.length > 0) throw invalid(...faults);
  const name = identityOf(input);
  const held = await lockModel(transaction, seen);
  const taken = await findRelease(transaction, held.id, name);
  if (taken) throw exists(taken);
  const followed = { id: held.id, repository_id: repository ?? 0, immutable: held.immutable, name: held.storage_path };
  const id =
    digest === undefined
      ? await insertDraft(transaction, caller, held, name)
      : await tagAndSet(transaction, caller, followed, name, digest);
  await writeRest(transaction, id, input);
  const release = await getRelease(transaction, caller.rights, id);
  await audit(transaction, caller, 'release.create', { after: release }, release);
  return release;
}

function exists(taken: { id: string; tag: string; status: string }): Error {
  return conflict('This version and quantization is there already', [{ type: 'release', ...taken }]);
}

async function insertDraft(transaction: Queries, caller: Caller, model: Model, name: ReleaseTag): Promise<string> {
  const [row] = await transaction.query<{ id: string }>(
    `insert into releases (model_id, version, quantization, tag, status, facts, version_order, created_by)
     values ($1, $2, $3, $4, 'draft', null, $5, $6) on conflict do nothing returning id`,
    [model.id, name.version, name.quantization, name.tag, versionOrder(name.version), caller.actor.key],
  );
  if (!row) throw conflict('This version and quantization is there already');
  return row.id;
}

/** Points the tag to a manifest of the repository, and makes its release of it. */
async function tagAndSet(
  transaction: Queries,
  caller: Caller,
  model: FollowedModel & { readonly name: RepositoryName },
  name: ReleaseTag,
  digest: Digest,
): Promise<string> {
  const content = await contentToRelease(transaction, model.repository_id, digest);
  await putTag(transaction, caller, model, name.tag as Tag, digest);
  return await setNewestRelease(transaction, model, name, content, caller.actor);
}

/** What a digest comes to as a release. @throws 'Invalid' */
async function contentToRelease(queries: Queries, repository: number, digest: Digest) {
  const content = await storedContent(queries, repository, digest);
  if (!content) throw invalidField('digest', "no manifest of the model's repository has this digest");
  if (content.subject !== null)
    throw invalidField('digest', 'this manifest refers to another one (subject): it is no release');
  return content;
}

/** @throws 'Invalid' for a status that it can't have */
function checkStatus({ status }: ReleaseInput, statuses: readonly Release['status'][]): void {
  if (status !== undefined && !statuses.includes(status))
    throw invalidField('status', `one of ${statuses.join(', ')}`, 'enum');
}

/** What is no identity. */
async function writeRest(transaction: Queries, id: string, input: ReleaseInput): Promise<void> {
  const { release_notes, metadata, status } = input;
  await transaction.query(
    `update releases set release_notes = case when $2 then $3 else release_notes end,
            metadata = coalesce($4::jsonb, metadata), status = coalesce($5, status), updated_at = now() where id = $1`,
    [
      id,
      release_notes !== undefined,
      release_notes ?? null,
      metadata === undefined ? null : JSON.stringify(metadata),
      status ?? null,
    ],
  );
}

/**
 * Changes a release: all of it (`'replace'`, PUT), or what is said (`'merge'`, PATCH). A digest moves its tag, or publishes a
 * draft. @throws 'Conflict' for version, quantization and tag of what is published
 */
export async function changeRelease(
  transaction: Queries,
  caller: Caller,
  id: string,
  input: ReleaseInput,
  how: 'replace' | 'merge',
): Promise<Release> {
  const held = await holdRelease(transaction, caller, id, 'push');
  const { model, release: before } = held;
  const said = how === 'merge' ? input : replacing(before, input);
  const draft = before.status === 'draft';
  const digest = typeof said.digest === 'string' ? digestField(said.digest) : undefined;
  // Its tag went when it was withdrawn: to be pulled again it needs a manifest again.
  const revived = !draft && held.tags.length === 0 && said.status !== undefined && said.status !== 'withdrawn';
  const moves = digest !== undefined && (digest !== before.digest || revived);
  const faults = await faultsOf(
    () => caller.expect(before),
    () => renamed(before, said),
    () => checkStatus(said, draft && !moves ? ['draft'] : ['published', 'deprecated', 'withdrawn']),
    () => moves && contentToRelease(transaction, model.repository_id, digest),
  );
  if (faults.length > 0) throw invalid(...faults);
  const name = renamed(before, said);
  if (!sameName(before, name)) {
    if (!draft) throw conflict('Version, quantization and tag of a published release are fixed');
    await rename(transaction, model, before, name);
  }
  if (said.digest === null && !draft) throw conflict('A published release has a digest');
  if (revived && !moves) throw conflict(`The tag ${before.tag} is gone; say which digest it is to have`);
  if (moves) await tagAndSet(transaction, caller, { ...model, name: before.image_repository }, name, digest);
  await writeRest(transaction, id, said);
  const release = await getRelease(transaction, caller.rights, id);
  await audit(transaction, caller, 'release.update', { before, after: release }, release);
  return release;
}

/** What PUT doesn't name is nothing, except for what makes the release what it is. */
function replacing(before: Release, input: ReleaseInput): ReleaseInput {
  return {
    release_notes: null,
    metadata: {},
    ...input,
    status: input.status ?? (before.status === 'draft' ? undefined : before.status),
  } as ReleaseInput;
}

function renamed(before: Release, input: ReleaseInput): ReleaseTag {
  if (input.version === undefined && input.quantization === undefined && input.tag === undefined) return before;
  const { version = before.version } = input;
  const quantization = input.quantization === undefined ? before.quantization : input.quantization;
  if (input.tag !== undefined) {
    // The tag alone says all of it; what is said beside it has to agree.
    return identityOf({
      tag: input.tag,
      ...(input.version === undefined ? {} : { version }),
      ...(input.quantization === undefined ? {} : { quantization }),
    });
  }
  const same = version === before.version && quantization === before.quantization;
  return same ? before : identityOf({ version, quantization });
}

function sameName(before: Release, name: ReleaseTag): boolean {
  return before.tag === name.tag && before.version === name.version && before.quantization === name.quantization;
}

async function rename(transaction: Queries, model: FollowedModel, before: Release, name: ReleaseTag): Promise<void> {
  const taken = await findRelease(transaction, model.id, name);
  if (taken && taken.id !== before.id) throw exists(taken);
  await transaction
    .query(
      'update releases set version = $2, quantization = $3, tag = $4, version_order = $5, updated_at = now() where id = $1',
      [before.id, name.version, name.quantization, name.tag, versionOrder(name.version)],
    )
    .catch((error: unknown) => {
      // Somebody pushed it meanwhile.
      if (brokenConstraint(error) !== 'releases_identity') throw error;
      throw conflict('This version and quantization is there already');
    });
}

/** A release with the locks in their order: repository, the tags that mean it, release. */
export async function holdRelease(
  transaction: Queries,
  caller: Caller,
  id: string,
  right: 'push' | 'delete',
): Promise<{ release: Release; model: FollowedModel; tags: string[] }> {
  const seen = await getRelease(transaction, caller.rights, id);
  caller.rights.require(right, seen.image_repository);
  const repository = await findRepository(transaction, seen.image_repository);
  const tags = await transaction.query<{ name: string }>(
    'select name from tags where repository = $1 and lower(name) = any($2::text[]) order by name for update',
    [repository ?? null, spellings(seen.version, seen.quantization)],
  );
  const release = await getRelease(transaction, caller.rights, id, 'for update of r');
  const [model] = await transaction.query<FollowedModel>(
    'select id, repository_id, immutable from models where id = $1',
    [release.model_id],
  );
  if (!model) throw notFound('Release');
  return { release, model, tags: tags.map((tag) => tag.name) };
}

/**
 * Removes a release and its tags; what its manifest names goes to the collector's queue when nothing else does.
 * @returns the tags that went. @throws 'Conflict' while a deployment of it is live, unless an admin forces it.
 */
export async function removeRelease(transaction: Queries, caller: Caller, id: string, force: boolean): Promise<void> {
  if (force) {
    // Whether it is there is nobody's business who may not even read it.
    await getRelease(transaction, caller.rights, id);
    caller.rights.requireAdmin();
  }
  const { release, model, tags } = await holdRelease(transaction, caller, id, 'delete');
  caller.expect(release);
  const live = await findLive(transaction, { model: model.id, release: id }, force ? ALL : SHOWN);
  if (live.length > 0 && !force) throw conflict(`${release.tag} is deployed`, live);
  const deployments = await findAll(transaction, { model: model.id, release: id });
  const removed = release.digest === null ? [] : await removeTags(transaction, model.repository_id, tags, caller.actor);
  for (const gone of removed)
    await caller.record(transaction, { kind: 'tag-removed', repository: release.image_repository, ...gone });
  await releaseBlobs(transaction, { release: id });
  await transaction.query('delete from releases where id = $1', [id]);
  await audit(
    transaction,
    caller,
    'release.delete',
    { before: release, tags: removed, deployments, ...(force ? { forced: live } : {}) },
    release,
  );
}

export async function audit(
  transaction: Queries,
  caller: Caller,
  action: string,
  details: Readonly<Record<string, unknown>>,
  release: Release,
): Promise<void> {
  await writeAudit(transaction, caller.actor, {
    action,
    resourceType: 'release',
    resourceId: release.id,
    repository: release.image_repository,
    details,
  });
}
