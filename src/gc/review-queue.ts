import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';

/** Something that may have lost its last name. */
export interface Review {
  readonly id: number;
  readonly kind: 'blob' | 'manifest';
  /** Null: of a blob in no repository. */
  readonly repository: number | null;
  readonly name: RepositoryName | null;
  readonly digest: Digest;
  /** Of a manifest: its subject was removed. */
  readonly orphaned: boolean;
  /** When it was last asked for, as PostgreSQL writes it. */
  readonly queuedAt: string;
}

/** What became of a review: there is nothing more to do, until when it waits, or others were at its rows just then. */
export type Verdict = 'done' | Date | 'busy';

/** So much later it is tried again where others were at the rows, or something failed, in seconds. */
const BUSY_SECONDS = 5;

/** Requests that are taken in by one statement. */
const TAKEN = 1_000;

/**
 * Makes reviews of what was asked for; one that waits already begins anew. A request that commits later is taken in later, so
 * none is lost with a review that ends at that moment.
 */
export async function takeRequests(queries: Queries): Promise<void> {
  for (let taken = TAKEN; taken === TAKEN; ) {
    const [row] = await queries.query<{ taken: number }>(
      `with asked as (
         delete from review_requests where id in (select id from review_requests order by id limit $1 for update skip locked)
         returning id, kind, repository, digest, orphaned, at),
       put as (
         insert into reviews (kind, repository, digest, queued_at, not_before, orphaned)
         select kind, repository, digest, max(at), now(), (array_agg(orphaned order by id desc))[1] from asked
          group by kind, repository, digest order by kind, repository, digest
         on conflict on constraint reviews_once do update
            set queued_at = greatest(reviews.queued_at, excluded.queued_at), not_before = now(), orphaned = excluded.orphaned)
       select count(*)::int as taken from asked`,
      [TAKEN],
    );
    taken = row?.taken ?? 0;
  }
}

/** Reviews that are due, the oldest first. */
export async function dueReviews(queries: Queries, limit: number): Promise<Review[]> {
  return await queries.query<Review>(
    `select v.id, v.kind, v.repository, r.name, v.digest, v.orphaned, v.queued_at::text as "queuedAt"
       from reviews v left join repositories r on r.id = v.repository
      where v.not_before <= now() order by v.not_before, v.id limit $1`,
    [limit],
  );
}

/**
 * Ends reviews, or has them wait. One that another collector has begun anew meanwhile, or holds, stays as it is.
 */
export async function settle(
  transaction: Queries,
  reviews: readonly Review[],
  verdicts: ReadonlyMap<number, Verdict>,
): Promise<void> {
  const rows = reviews.map(({ id, queuedAt }) => ({ id, queuedAt, verdict: verdicts.get(id) ?? 'busy' }));
  await transaction.query(
    `with told as (select * from unnest($1::bigint[], $2::timestamptz[], $3::boolean[], $4::timestamptz[]) as k (id, queued_at, done, until)),
          held as (select v.id, told.done, told.until from reviews v join told on told.id = v.id and told.queued_at = v.queued_at
                    order by v.id for update of v skip locked),
          ended as (delete from reviews where id in (select id from held where done))
     update reviews v set not_before = coalesce(held.until, now() + make_interval(secs => $5))
       from held where v.id = held.id and not held.done`,
    [
      rows.map(({ id }) => id),
      rows.map(({ queuedAt }) => queuedAt),
      rows.map(({ verdict }) => verdict === 'done'),
      rows.map(({ verdict }) => (verdict instanceof Date ? verdict : null)),
      BUSY_SECONDS,
    ],
  );
}
