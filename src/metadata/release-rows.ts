import { RegistryError } from '../errors.js';
import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import { readTag, spellings } from '../weights/tag.js';
import { versionOrder } from '../weights/version.js';
import { attachReferrersOf, fileParameters, fileRows, putLayers } from './artifact-rows.js';
import { findLive, refuseLive } from './live.js';
import { type ReleaseContent, storedContent } from './release-content.js';

/** A model as whoever follows its tags needs it. */
export interface FollowedModel {
  readonly id: string;
  readonly repository_id: number;
  readonly immutable: boolean;
}

/** A tag that is a release, and what the release is. */
export interface ReleaseTag {
  readonly tag: string;
  readonly version: string;
  readonly quantization: string | null;
}

// Most pushes make a new release: its files go with it, in one statement.
const SET_RELEASE = `with release as (
   insert into releases as r (model_id, version, quantization, tag, digest, media_type, artifact_type, size_bytes, status,
                              facts, version_order, created_by)
   values ($1, $2, $3, $4, $5, $6, $7, $8, 'published', $9, $10, $11)
   on conflict (model_id, lower(version), lower(coalesce(quantization, ''))) do update
      set version = excluded.version, quantization = excluded.quantization, tag = excluded.tag, digest = excluded.digest,
          media_type = excluded.media_type, artifact_type = excluded.artifact_type, size_bytes = excluded.size_bytes,
          facts = excluded.facts, version_order = excluded.version_order, updated_at = now(),
          status = case when r.status in ('draft', 'withdrawn') then 'published' else r.status end
    where not $12 or r.digest is null or r.digest = excluded.digest
   returning r.id, r.xmax = 0 as fresh),
 layers as (
   insert into artifacts (release_id, name, kind, position, media_type, digest, size_bytes, path, checksum, format, created_by)
   select r.id, w.name, 'layer', w.position, w.media_type, w.digest, w.size_bytes, w.path, w.digest, w.format, $11
     from release r, ${fileRows(14)} where r.fresh)
 select id, fresh, exists (select from manifests m where m.repository = $13 and m.subject = $5) as referred from release`;

/**
 * Makes or moves the release of a tag that now means `content`. Whoever calls it holds the tag.
 * @returns its id, and whether it is new. @throws 'ReleaseImmutable' if the model is, and the release is another digest.
 */
export async function setRelease(
  transaction: Queries,
  model: FollowedModel,
  release: ReleaseTag,
  content: ReleaseContent,
  actor: Actor,
): Promise<{ id: string; fresh: boolean }> {
  const { tag, version, quantization } = release;
  const facts = content.facts({ kind: 'release', version, quantization });
  const [row] = await transaction.query<{ id: string; fresh: boolean; referred: boolean }>(SET_RELEASE, [
    model.id,
    version,
    quantization,
    tag,
    content.digest,
    content.mediaType,
    content.artifactType,
    content.size,
    facts === null ? null : JSON.stringify(facts),
    versionOrder(version),
    actor.key,
    model.immutable,
    model.repository_id,
    ...fileParameters(content.files),
  ]);
  if (!row) throw await immutable(transaction, model.id, release);
  const { id, fresh, referred } = row;
  if (!fresh) await putLayers(transaction, id, content.files, actor);
  if (!fresh || referred) await attachReferrersOf(transaction, model, id, content.digest, referred, actor);
  return { id, fresh };
}

/** Says which digest a release of an immutable model keeps. */
export async function immutable(queries: Queries, model: string, release: ReleaseTag): Promise<RegistryError> {
  const found = await findRelease(queries, model, release);
  return new RegistryError(
    'ReleaseImmutable',
    `the releases of this model are immutable, and ${found?.tag ?? release.tag} is ${found?.digest ?? 'another digest'}`,
    { detail: { conflicts: [{ type: 'release', id: found?.id, tag: found?.tag, digest: found?.digest }] } },
  );
}

/**
 * Makes or moves the release of a tag that was set just now: where another spelling was set later still, the release is what
 * that one means. Whoever sets the release last looks last, so one of two that cross sees the other's tag; whoever makes it
 * is the first of them.
 * @returns its id. @throws 'ReleaseImmutable' if the model is, and the release is another digest.
 */
export async function setNewestRelease(
  transaction: Queries,
  model: FollowedModel,
  release: ReleaseTag,
  content: ReleaseContent,
  actor: Actor,
): Promise<string> {
  const { id, fresh } = await setRelease(transaction, model, release, content, actor);
  if (fresh) return id;
  const others = spellings(release.version, release.quantization);
  const later = await transaction.query(
    `select from tags t where t.repository = $1 and lower(t.name) = any($2::text[]) and t.name <> $3
        and t.updated_at > (select updated_at from tags where repository = $1 and name = $3) limit 1`,
    [model.repository_id, others, release.tag],
  );
  const heir = later.length > 0 ? await newestSpelling(transaction, model, release) : undefined;
  return heir ? (await setRelease(transaction, model, heir.release, heir.content, actor)).id : id;
}

/** The release of a version and quantization, whatever its spelling. */
export async function findRelease(
  queries: Queries,
  model: string,
  { version, quantization }: Pick<ReleaseTag, 'version' | 'quantization'>,
  lock: '' | 'for update' = '',
): Promise<{ id: string; tag: string; digest: Digest | null; status: string } | undefined> {
  const [row] = await queries.query<{ id: string; tag: string; digest: Digest | null; status: string }>(
    `select id, tag, digest, status from releases
      where model_id = $1 and lower(version) = lower($2) and lower(coalesce(quantization, '')) = lower($3) ${lock}`,
    [model, version, quantization ?? ''],
  );
  return row;
}

/**
 * A tag that meant a release means it no longer: another spelling takes its place, or the release goes; with deployments it
 * stays as withdrawn. @throws 'ReleaseDeployed' if one of them is live.
 */
export async function forgetTag(
  transaction: Queries,
  model: FollowedModel,
  release: ReleaseTag,
  actor: Actor,
): Promise<void> {
  const found = await findRelease(transaction, model.id, release, 'for update');
  // A draft has no tag, and a withdrawn release lost it before.
  if (!found || found.status === 'draft') return;
  const heir = await newestSpelling(transaction, model, release);
  if (heir) {
    await setRelease(transaction, model, heir.release, heir.content, actor);
    return;
  }
  refuseLive(await findLive(transaction, { model: model.id, release: found.id }), found.tag);
  await eraseOrWithdraw(transaction, found.id);
}

/** What has run anywhere is kept as withdrawn, so that its history can be read. */
async function eraseOrWithdraw(transaction: Queries, id: string): Promise<void> {
  const rows = await transaction.query(
    `update releases set status = 'withdrawn', updated_at = now()
      where id = $1 and exists (select from deployments where release_id = $1) returning id`,
    [id],
  );
  if (rows.length === 0) await transaction.query('delete from releases where id = $1', [id]);
}

/** The tag that was set last among those that mean a release. */
async function newestSpelling(transaction: Queries, model: FollowedModel, { version, quantization }: ReleaseTag) {
  const [row] = await transaction.query<{ name: string; digest: Digest }>(
    `select t.name, t.digest from tags t join manifests m on m.repository = t.repository and m.digest = t.digest
      where t.repository = $1 and lower(t.name) = any($2::text[]) and m.subject is null
      order by t.updated_at desc, t.name limit 1`,
    [model.repository_id, spellings(version, quantization)],
  );
  const content = row && (await storedContent(transaction, model.repository_id, row.digest));
  return content && { release: releaseTag(row.name), content };
}

/** A tag that is known to mean a release. */
export function releaseTag(tag: string): ReleaseTag {
  const meaning = readTag(tag);
  if (meaning.kind !== 'release') throw new Error(`the tag ${tag} means no release`);
  return { tag, version: meaning.version, quantization: meaning.quantization };
}
