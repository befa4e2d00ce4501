import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import type { Change, ChangeObserver, MovedTag } from '../registry/changes.js';
import { NotAlone, type PushInspector } from '../registry/manifests.js';
import type { Blobs } from '../registry/blobs.js';
import { isModelLike, wantsConfig } from '../weights/packaging.js';
import { readTag } from '../weights/tag.js';
import { attach, holdReleasesOf } from './artifact-rows.js';
import { indexesOf, putParts } from './index-parts.js';
import { adoptTags } from './adoption.js';
import { readConfigBlob } from './config-blob.js';
import { findLive, refuseLive } from './live.js';
import { createModelOf, lockRepository } from './model-changes.js';
import { contentOf } from './release-content.js';
import { findRelease, type FollowedModel, forgetTag, immutable, releaseTag, setNewestRelease } from './release-rows.js';

type Pushed = Extract<Change, { kind: 'manifest-pushed' }>;

/** Reads, before a push's transaction, what the config of a model says. A push of something else costs nothing here. */
export function inspectPushes(blobs: Blobs): PushInspector {
  return async ({ repository, manifest }) => {
    if (manifest.subject !== undefined || !isModelLike(manifest) || !wantsConfig(manifest)) return undefined;
    return await readConfigBlob(blobs, repository, manifest);
  };
}

/** Keeps releases and artifacts what the tags and manifests are (spec/metadata.md, "Who writes what"). */
export const followChanges: ChangeObserver = Object.assign(follow, {
  rowsOf: ({ kind }: Change) => (MEANINGLESS.has(kind) ? [] : undefined),
});

/** Blobs mean nothing by themselves; a tag that is set alone is set by the metadata API, which knows. */
const MEANINGLESS: ReadonlySet<Change['kind']> = new Set([
  'tag-set',
  'blob-pushed',
  'blob-mounted',
  'blob-removed',
  'blob-quarantined',
  'blob-healed',
]);

async function follow(change: Change, actor: Actor, transaction: Queries): Promise<void> {
  switch (change.kind) {
    case 'manifest-pushed':
      return await followPush(change, actor, transaction);
    case 'manifest-removed':
      return await followRemoval(change.repository, change.digest, change.tags, actor, transaction);
    case 'tag-removed':
      return await followRemoval(change.repository, undefined, [change.tag], actor, transaction);
    case 'tag-set':
    case 'blob-pushed':
    case 'blob-mounted':
    case 'blob-removed':
    case 'blob-quarantined':
    case 'blob-healed':
      return;
  }
}

async function followPush(change: Pushed, actor: Actor, transaction: Queries): Promise<void> {
  const { manifest, moved, digest } = change;
  if (change.tags.length === 0) await followPart(change, actor, transaction);
  if (moved.length === 0 && manifest.subject === undefined) return;
  const model = (await findModel(transaction, change.repository)) ?? (await makeModel(transaction, change, actor));
  if (model) await followManifest(transaction, model, { manifest, moved, digest, config: change.config }, actor);
}

/** What a manifest that was put into a model's repository means for its releases. */
export async function followManifest(
  transaction: Queries,
  model: FollowedModel,
  { manifest, moved, digest, config }: Pick<Pushed, 'manifest' | 'moved' | 'digest' | 'config'>,
  actor: Actor,
): Promise<void> {
  const releases = moved.filter((move) => readTag(move.tag).kind === 'release');
  if (manifest.subject !== undefined) {
    await refuseImmutable(transaction, model, releases);
    // Such a tag is none of a release, whatever it was before.
    await forget(transaction, model, releases, actor);
    await attach(transaction, await holdReleasesOf(transaction, model, manifest.subject), digest, manifest, actor);
    return;
  }
  if (releases.length === 0) return;
  const content = await contentOf(transaction, model.repository_id, digest, manifest, config);
  for (const { tag } of releases) await setNewestRelease(transaction, model, releaseTag(tag), content, actor);
}

/** A tag that goes over to what is no release would take it away as surely as one that moves. @throws 'ReleaseImmutable' */
async function refuseImmutable(transaction: Queries, model: FollowedModel, moved: readonly MovedTag[]): Promise<void> {
  if (!model.immutable) return;
  for (const { tag, previous } of moved) {
    const found = previous && (await findRelease(transaction, model.id, releaseTag(tag)));
    if (found && found.digest !== null) throw await immutable(transaction, model.id, releaseTag(tag));
  }
}

async function followRemoval(
  repository: RepositoryName,
  digest: Digest | undefined,
  tags: readonly string[],
  actor: Actor,
  transaction: Queries,
): Promise<void> {
  const model = await findModel(transaction, repository);
  if (!model) return;
  if (digest !== undefined) {
    const wholes = await indexesOf(transaction, model.repository_id, digest);
    await putParts(transaction, model, wholes, actor);
    refuseLive(await findLive(transaction, { model: model.id, digests: [digest, ...wholes] }), digest);
    await transaction.query(
      'delete from artifacts a using releases r where r.id = a.release_id and r.model_id = $1 and a.manifest = $2',
      [model.id, digest],
    );
  }
  await forget(
    transaction,
    model,
    tags.map((tag) => ({ tag })),
    actor,
  );
}

async function forget(
  transaction: Queries,
  model: FollowedModel,
  tags: readonly Pick<MovedTag, 'tag'>[] | readonly { tag: string }[],
  actor: Actor,
): Promise<void> {
  for (const { tag } of tags)
    if (readTag(tag).kind === 'release') await forgetTag(transaction, model, releaseTag(tag), actor);
}

/** An image may come after the index that lists it: releases that are the index then have its files. */
async function followPart({ repository, digest }: Pushed, actor: Actor, transaction: Queries): Promise<void> {
  const model = await findModel(transaction, repository);
  if (model) await putParts(transaction, model, await indexesOf(transaction, model.repository_id, digest), actor);
}

/** The model of a repository. */
export async function findModel(queries: Queries, repository: RepositoryName): Promise<FollowedModel | undefined> {
  const [model] = await queries.query<FollowedModel>(
    `select m.id, m.repository_id, m.immutable from repositories r join models m on m.repository_id = r.id where r.name = $1`,
    [repository],
  );
  return model;
}

/** A push of what looks like a model, into a repository that has none, makes one of it and of all tags that are there. */
async function makeModel(transaction: Queries, change: Pushed, actor: Actor): Promise<FollowedModel | undefined> {
  if (change.moved.length === 0 || !isModelLike(change.manifest)) return undefined;
  if (!change.alone) throw new NotAlone();
  const id = await lockRepository(transaction, change.repository);
  const made = await createModelOf(transaction, { id, name: change.repository }, actor);
  const model = made ? { ...made, repository_id: id } : await findModel(transaction, change.repository);
  if (made && model) await adoptTags(transaction, model, actor);
  return model;
}
