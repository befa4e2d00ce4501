import { isFailure, RegistryError } from '../../errors.js';
import type { Digest } from '../../oci/digest.js';
import type { Manifest } from '../../oci/manifest.js';
import type { RepositoryName } from '../../oci/name.js';
import { announce } from '../../registry/changes.js';
import { putManifest, removeManifest } from '../../registry/manifest-rows.js';
import { ensureRepository } from '../../registry/repositories.js';
import { needsOf, readStored, wordsOf } from './lines.js';
import type { RebuildOptions } from './options.js';

/** Manifests may be large. */
const PAGE = 20;

/** What was written down last of a manifest that is to be there. */
interface Row {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly generation: number;
  readonly id: number;
  readonly at: Date;
  readonly mediaType: string;
  readonly payload: Buffer;
}

/**
 * Puts manifests in the order in which they were written down, as a push does, with links to the blobs that they name: that
 * they were taken says that these were there. Releases of models follow.
 */
export async function rebuildManifests(options: RebuildOptions): Promise<void> {
  const { database, report, check } = options;
  const count = report.counts.manifests;
  const [counted] = await database.query<{ recorded: number; there: number }>(
    `select count(*)::int as recorded, count(m.digest)::int as there
       from rebuilt_things t left join repositories r on r.name = t.repository
       left join manifests m on m.repository = r.id and m.digest = t.digest
      where t.thing = 'manifest' and t.digest is not null`,
  );
  Object.assign(count, counted);
  for (let last: Pick<Row, 'generation' | 'id'> = { generation: -1, id: -1 }; ; ) {
    await check();
    const rows = await database.query<Row>(
      `select t.repository, t.digest, t.generation, t.id, t.at, t.media_type as "mediaType", t.payload
         from rebuilt_things t where t.thing = 'manifest' and t.digest is not null and (t.generation, t.id) > ($1, $2)
          and not exists (select from manifests m join repositories r on r.id = m.repository
                           where r.name = t.repository and m.digest = t.digest)
        order by t.generation, t.id limit ${PAGE}`,
      [last.generation, last.id],
    );
    for (const row of rows)
      if (await attempt(options, `manifest ${row.repository}@${row.digest}`, () => put(options, row))) count.made += 1;
      else count.missing += 1;
    const end = rows.at(-1);
    if (!end) return;
    last = end;
    report.progress(() => `manifests: ${count.made} made, ${count.there} there`);
  }
}

/** What today's rules forbid, or what misses something, is a fault, and the others go on. @returns whether it is done */
export async function attempt(
  { report }: RebuildOptions,
  what: string,
  work: () => Promise<unknown>,
): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (!isFailure(error) || isFailure(error, 'Unavailable')) throw error;
    report.fault(`${what}: ${wordsOf(error)}`);
    return false;
  }
}

async function put(options: RebuildOptions, row: Row): Promise<void> {
  const { database, observers, inspect, actor, dryRun } = options;
  const { repository, digest, payload, at } = row;
  const manifest = readStored(payload, row.mediaType);
  if (dryRun) return await requireNeeds(options, manifest);
  const push = { repository, digest, payload, manifest, tags: [] };
  const config = await inspect(push);
  const needs = needsOf(manifest).map((need) => need.digest);
  await database.transaction(async (transaction) => {
    const id = await ensureRepository(transaction, repository, 'update');
    await transaction.query(
      `insert into repository_blobs (repository, digest, linked_at)
       select $1, b.digest, $3 from blobs b where b.digest = any($2::text[]) order by 2 on conflict do nothing`,
      [id, needs, at],
    );
    const moved = await putManifest(transaction, push, actor, true);
    await transaction.query('update manifests set created_at = $3 where repository = $1 and digest = $2', [
      id,
      digest,
      at,
    ]);
    const size = payload.length;
    await announce(
      observers,
      { kind: 'manifest-pushed', repository, digest, size, manifest, tags: [], moved, config, alone: true },
      actor,
      transaction,
    );
  });
}

/** What a push would say, if the blobs that are to be made were there. @throws 'ManifestBlobUnknown' */
async function requireNeeds({ database }: RebuildOptions, manifest: Manifest): Promise<void> {
  const rows = await database.query<{ digest: Digest }>(
    `select n.digest from unnest($1::text[]) as n (digest)
      where not exists (select from blobs b where b.digest = n.digest)
        and not exists (select from rebuilt_bodies b where b.digest = n.digest and b.whole)`,
    [needsOf(manifest).map(({ digest }) => digest)],
  );
  if (rows.length === 0) return;
  const missing = rows.map(({ digest }) => digest);
  throw new RegistryError('ManifestBlobUnknown', 'blobs that it names are not there', { detail: { missing } });
}

/**
 * Removes manifests of an older database that were removed since. After the tags: of those that moved elsewhere none goes.
 * What is deployed by now stays, and is a fault.
 */
export async function rebuildRemovals(options: RebuildOptions): Promise<void> {
  const { database, observers, actor, report, dryRun, check } = options;
  await check();
  const rows = await database.query<Pick<Row, 'repository' | 'digest'>>(
    `select t.repository, m.digest from rebuilt_things t join repositories r on r.name = t.repository
       join manifests m on m.repository = r.id and m.digest = t.name
      where t.thing = 'manifest' and t.digest is null order by t.generation, t.id`,
  );
  for (const { repository, digest } of rows) {
    const removed = await attempt(options, `manifest ${repository}@${digest}, which was removed, stays`, async () => {
      if (dryRun) return;
      await database.transaction(async (transaction) => {
        await ensureRepository(transaction, repository, 'update');
        const gone = await removeManifest(transaction, repository, digest, actor);
        await announce(observers, { kind: 'manifest-removed', repository, digest, ...gone }, actor, transaction);
      });
    });
    if (removed) report.counts.manifests.removed += 1;
  }
}
