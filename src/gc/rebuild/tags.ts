import { RegistryError } from '../../errors.js';
import type { Queries } from '../../database/connect.js';
import type { Digest } from '../../oci/digest.js';
import type { RepositoryName, Tag } from '../../oci/name.js';
import { announce } from '../../registry/changes.js';
import { ensureRepository } from '../../registry/repositories.js';
import { removeTags, setTags } from '../../registry/tag-rows.js';
import { readStored } from './lines.js';
import { attempt } from './manifests.js';
import type { RebuildOptions } from './options.js';

const PAGE = 500;

interface Row {
  readonly repository: RepositoryName;
  readonly tag: Tag;
  /** Null: it was removed. */
  readonly digest: Digest | null;
  /** What it means in the database; null: nothing. */
  readonly current: Digest | null;
  readonly at: Date;
  readonly generation: number;
  readonly id: number;
}

/**
 * Sets and removes tags to what was written down of each last, in that order, so that of several spellings of a release the
 * newest is the release. A tag that an older database has otherwise is moved, and the event says so.
 */
export async function rebuildTags(options: RebuildOptions): Promise<void> {
  const { database, report, check, dryRun } = options;
  const count = report.counts.tags;
  for (let last: Pick<Row, 'generation' | 'id'> = { generation: -1, id: -1 }; ; ) {
    await check();
    const rows = await database.query<Row>(
      `select t.repository, t.name as tag, t.digest, g.digest as current, t.at, t.generation, t.id
         from rebuilt_things t left join repositories r on r.name = t.repository
         left join tags g on g.repository = r.id and g.name = t.name
        where t.thing = 'tag' and (t.generation, t.id) > ($1, $2) order by t.generation, t.id limit ${PAGE}`,
      [last.generation, last.id],
    );
    for (const row of rows) {
      if (row.digest !== null) count.recorded += 1;
      if (row.digest === row.current) {
        if (row.digest !== null) count.there += 1;
        continue;
      }
      const { digest } = row;
      const what = `tag ${row.repository}:${row.tag}${digest === null ? ', which was removed, stays' : ''}`;
      const done = await attempt(options, what, async () => {
        if (digest === null) await (dryRun ? undefined : remove(options, row));
        else await set(options, row, digest);
      });
      count[digest === null ? 'removed' : done ? 'made' : 'missing'] += digest === null && !done ? 0 : 1;
    }
    const end = rows.at(-1);
    if (!end) return;
    last = end;
    report.progress(() => `tags: ${count.made} made, ${count.there} there`);
  }
}

async function set(options: RebuildOptions, { repository, tag, at }: Row, digest: Digest): Promise<void> {
  const { database, observers, actor, inspect, dryRun } = options;
  const stored = await findStored(database, repository, digest, dryRun);
  if (!stored) throw new RegistryError('ManifestUnknown', `its manifest ${digest} is not there`);
  if (dryRun) return;
  const { payload, mediaType } = stored;
  const manifest = readStored(payload, mediaType);
  const config = await inspect({ repository, digest, payload, manifest, tags: [tag] });
  await database.transaction(async (transaction) => {
    const id = await ensureRepository(transaction, repository, 'update');
    const moved = await setTags(transaction, id, digest, [tag], actor);
    await transaction.query('update tags set updated_at = $3 where repository = $1 and name = $2', [id, tag, at]);
    const size = payload.length;
    await announce(
      observers,
      { kind: 'manifest-pushed', repository, digest, size, manifest, tags: [tag], moved, config, alone: true },
      actor,
      transaction,
    );
  });
}

async function remove({ database, observers, actor }: RebuildOptions, { repository, tag }: Row): Promise<void> {
  await database.transaction(async (transaction) => {
    const id = await ensureRepository(transaction, repository, 'update');
    for (const { digest } of await removeTags(transaction, id, [tag], actor))
      await announce(observers, { kind: 'tag-removed', repository, tag, digest }, actor, transaction);
  });
}

/** A manifest of the database; if nothing is to be changed, also one that would be made. */
async function findStored(
  queries: Queries,
  repository: RepositoryName,
  digest: Digest,
  orRecorded: boolean,
): Promise<{ payload: Buffer; mediaType: string } | undefined> {
  const [row] = await queries.query<{ payload: Buffer; mediaType: string }>(
    `select m.payload, m.media_type as "mediaType" from manifests m join repositories r on r.id = m.repository
      where r.name = $1 and m.digest = $2
     union all
     select payload, media_type from rebuilt_things where $3 and thing = 'manifest' and repository = $1 and name = $2 and digest is not null
     limit 1`,
    [repository, digest, orRecorded],
  );
  return row;
}
