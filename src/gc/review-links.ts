import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import { outlast } from '../registry/remembered.js';
import { LINK_IS_NAMED } from './names.js';
import type { Review, Verdict } from './review-queue.js';

export interface LinkReviewOptions {
  /** How long a link stays after it was made or renewed, and once more after it was condemned, in seconds. */
  readonly graceSeconds: number;
  /** How long the bytes of a blob that goes stay for those who read them, in seconds. */
  readonly readGraceSeconds: number;
}

export interface LinkReviews {
  /** By the ids of the reviews. */
  readonly verdicts: ReadonlyMap<number, Verdict>;
  readonly condemned: number;
  /** The reviews whose links were taken away. */
  readonly gone: readonly Review[];
  /** Blobs that had no link any more, and their bytes. */
  readonly blobs: number;
  readonly bytes: number;
}

interface Judged {
  readonly id: number;
  readonly digest: Digest;
  readonly what: 'none' | 'busy' | 'named' | 'young' | 'condemn' | 'waits' | 'go';
  /** When it is to be looked at again. */
  readonly until: Date | null;
}

/**
 * Decides about links of blobs by the rows, for reviews of kind 'blob'. Named: nothing. Unnamed, and not newer than the
 * grace period: condemned. Condemned for as long: the link goes, and with the last one the blob.
 *
 * Races: a manifest or a draft that names a blob holds its link FOR KEY SHARE, a mount and a commit write it, each from before
 * it looks until it commits. Here links are held FOR UPDATE, and what names them is asked by a later statement, which sees
 * everybody who let go before. Who comes after waits, and finds a link that is condemned, which he revives, or none. Whoever
 * makes a link holds the blob's row, by the foreign key at least; the last link's blob goes only where its row could be held
 * too. No row is waited for: what others hold is looked at later.
 */
export async function reviewLinks(
  transaction: Queries,
  reviews: readonly Review[],
  { graceSeconds, readGraceSeconds }: LinkReviewOptions,
): Promise<LinkReviews> {
  const judged = await judge(transaction, reviews, await hold(transaction, reviews), graceSeconds);
  const idsOf = (what: Judged['what']) => new Set(judged.filter((link) => link.what === what).map(({ id }) => id));
  const [named, condemned, going] = [idsOf('named'), idsOf('condemn'), idsOf('go')];
  await mark(transaction, of(reviews, named), false);
  await mark(transaction, of(reviews, condemned), true);
  // That it is there may be remembered.
  if (condemned.size > 0) outlast(transaction);
  const leaving = judged.filter(({ what }) => what === 'go' || what === 'none');
  const held = await holdBlobs(
    transaction,
    leaving.map(({ digest }) => digest),
  );
  const gone = of(reviews, going);
  await removeLinks(transaction, gone);
  const blobs = await removeBare(transaction, held, readGraceSeconds);
  const verdicts = new Map<number, Verdict>(
    judged.map(({ id, digest, what, until }) => {
      // Whoever holds its blob may or may not link it.
      const isOpen = what === 'busy' || (what === 'go' && !held.includes(digest));
      return [id, isOpen ? 'busy' : (until ?? 'done')];
    }),
  );
  return {
    verdicts,
    condemned: condemned.size,
    gone,
    blobs: blobs.length,
    bytes: blobs.reduce((sum, { size }) => sum + size, 0),
  };
}

const of = (reviews: readonly Review[], ids: ReadonlySet<number>) => reviews.filter(({ id }) => ids.has(id));

/** @returns ids of the reviews whose links are held now. */
async function hold(transaction: Queries, reviews: readonly Review[]): Promise<number[]> {
  const rows = await transaction.query<{ id: number }>(
    `select k.id from ${ROWS} join repository_blobs l on l.repository = k.repository and l.digest = k.digest
      order by l.repository, l.digest for update of l skip locked`,
    parametersOf(reviews),
  );
  return rows.map(({ id }) => id);
}

/** Reviews as rows `k` of a statement. */
const ROWS = 'unnest($1::bigint[], $2::bigint[], $3::text[]) as k (id, repository, digest)';

function parametersOf(reviews: readonly Review[]): unknown[] {
  return [
    reviews.map(({ id }) => id),
    reviews.map(({ repository }) => repository),
    reviews.map(({ digest }) => digest),
  ];
}

async function judge(
  transaction: Queries,
  reviews: readonly Review[],
  held: readonly number[],
  graceSeconds: number,
): Promise<Judged[]> {
  return await transaction.query<Judged>(
    `select id, digest, what,
            case what when 'young' then linked_at + grace when 'condemn' then now() + grace when 'waits' then condemned_at + grace end as until
       from (select k.id, k.digest, l.linked_at, l.condemned_at, g.grace,
                    case when l.digest is null then 'none'
                         when k.id <> all($4::bigint[]) then 'busy'
                         when ${LINK_IS_NAMED} then 'named'
                         when l.condemned_at is null and l.linked_at + g.grace > now() then 'young'
                         when l.condemned_at is null then 'condemn'
                         when l.condemned_at + g.grace > now() then 'waits'
                         else 'go' end as what
               from ${ROWS} cross join make_interval(secs => $5) as g (grace)
               left join repository_blobs l on l.repository = k.repository and l.digest = k.digest) j`,
    [...parametersOf(reviews), held, graceSeconds],
  );
}

/** Marks links, held, as condemned, or takes the mark away. */
async function mark(transaction: Queries, reviews: readonly Review[], isCondemned: boolean): Promise<void> {
  if (reviews.length === 0) return;
  await transaction.query(
    `update repository_blobs l set condemned_at = case when $4 then now() end
       from ${ROWS} where l.repository = k.repository and l.digest = k.digest and (l.condemned_at is null) = $4`,
    [...parametersOf(reviews), isCondemned],
  );
}

async function holdBlobs(transaction: Queries, digests: readonly Digest[]): Promise<Digest[]> {
  if (digests.length === 0) return [];
  const rows = await transaction.query<{ digest: Digest }>(
    'select digest from blobs where digest = any($1::text[]) order by digest for update skip locked',
    [digests],
  );
  return rows.map(({ digest }) => digest);
}

async function removeLinks(transaction: Queries, gone: readonly Review[]): Promise<void> {
  if (gone.length === 0) return;
  await transaction.query(
    `delete from repository_blobs l using ${ROWS} where l.repository = k.repository and l.digest = k.digest`,
    parametersOf(gone),
  );
}

/** Removes those of the blobs, held, that no repository has; their keys go the way of all bytes. */
async function removeBare(
  transaction: Queries,
  digests: readonly Digest[],
  readGraceSeconds: number,
): Promise<{ digest: Digest; size: number }[]> {
  if (digests.length === 0) return [];
  return await transaction.query(
    `with gone as (delete from blobs b where b.digest = any($1::text[])
                      and not exists (select from repository_blobs l where l.digest = b.digest)
                   returning b.digest, b.size, b.body),
          segments as (delete from segments s using gone where s.body = gone.body returning s.key, s.bytes),
          queued as (insert into removals (key, not_before)
                     select key, now() + make_interval(secs => $2) from segments where bytes is null),
          bodies as (delete from bodies y using gone where y.id = gone.body)
     select digest, size from gone`,
    [digests, readGraceSeconds],
  );
}
