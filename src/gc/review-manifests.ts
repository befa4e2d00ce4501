import type { Queries } from '../database/connect.js';
import { outlast } from '../registry/remembered.js';
import { manifestIsNamed } from './names.js';
import type { Review, Verdict } from './review-queue.js';

export interface ManifestReviewOptions {
  /** How long a manifest stays after it was condemned, in seconds. */
  readonly graceSeconds: number;
  /** A condition on a manifest `m` that holds where the metadata needs it. */
  readonly pinned: string;
  /** Read where it matters, by the transaction that decides. */
  readonly protectedTags: ProtectedTags;
}

/** Which tags nobody but an admin removes. */
export type ProtectedTags = (queries: Queries) => Promise<(repository: string, tag: string) => boolean>;

/** A review, and how long a manifest that nothing names stays in that repository, in seconds; undefined: it is kept. */
export interface ManifestReview {
  readonly review: Review;
  readonly keepSeconds: number | undefined;
}

export interface ManifestReviews {
  /** By the ids of the reviews. */
  readonly verdicts: Map<number, Verdict>;
  readonly condemned: number;
  /** Those that are to be removed now, each in a transaction of its own that asks again. */
  readonly going: readonly ManifestReview[];
}

interface Judged {
  readonly id: number;
  readonly what: 'none' | 'busy' | 'named' | 'kept' | 'young' | 'condemn' | 'waits' | 'go';
  readonly until: Date | null;
}

/**
 * Decides about manifests by the rows, for reviews of kind 'manifest'. Unnamed for as long as the policy says: condemned,
 * after which nobody sees it. Condemned for the grace period: it is to go. One that refers to a subject which was removed is
 * condemned at once, also if only a tag says so; a protected tag stays.
 *
 * Races: whoever names a manifest holds its row FOR KEY SHARE, or writes it, from before he looks until he commits
 * (`holdManifests`, a PUT of it, the foreign key of tags). Here it is held FOR UPDATE, and what names it is asked by a later
 * statement. Who comes after waits, and finds it condemned, which he revives. No row is waited for.
 */
export async function reviewManifests(
  transaction: Queries,
  reviews: readonly ManifestReview[],
  options: ManifestReviewOptions,
): Promise<ManifestReviews> {
  const held = await transaction.query<{ id: number }>(
    `select k.id from ${ROWS} join manifests m on m.repository = k.repository and m.digest = k.digest
      order by m.repository, m.digest for update of m skip locked`,
    parametersOf(reviews),
  );
  const judged = await judge(
    transaction,
    reviews,
    held.map(({ id }) => id),
    await withProtectedTags(transaction, reviews, options.protectedTags),
    options,
  );
  const of = (what: Judged['what']) => {
    const ids = new Set(judged.filter((row) => row.what === what).map(({ id }) => id));
    return reviews.filter(({ review }) => ids.has(review.id));
  };
  await mark(transaction, of('named'), false);
  await mark(transaction, of('kept'), false);
  const condemned = of('condemn');
  await mark(transaction, condemned, true);
  // That it is there may be remembered.
  if (condemned.length > 0) outlast(transaction);
  const verdicts = new Map<number, Verdict>(
    judged.map(({ id, what, until }) => [id, what === 'busy' ? 'busy' : (until ?? 'done')]),
  );
  return { verdicts, condemned: condemned.length, going: of('go') };
}

/** Reviews as rows `k` of a statement. */
const ROWS = `unnest($1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[], $5::boolean[], $6::float8[])
                as k (id, repository, digest, queued_at, orphaned, keep)`;

function parametersOf(reviews: readonly ManifestReview[]): unknown[] {
  return [
    reviews.map(({ review }) => review.id),
    reviews.map(({ review }) => review.repository),
    reviews.map(({ review }) => review.digest),
    reviews.map(({ review }) => review.queuedAt),
    reviews.map(({ review }) => review.orphaned),
    reviews.map(({ keepSeconds }) => keepSeconds ?? null),
  ];
}

/** @returns ids of those whose subject was removed, and that have a tag which is not to go with it. */
async function withProtectedTags(
  transaction: Queries,
  reviews: readonly ManifestReview[],
  protectedTags: ProtectedTags,
): Promise<number[]> {
  const orphaned = reviews.filter(({ review }) => review.orphaned);
  if (orphaned.length === 0) return [];
  const rows = await transaction.query<{ id: number; name: string; tag: string }>(
    `select k.id, r.name, t.name as tag from ${ROWS} join repositories r on r.id = k.repository
       join tags t on t.repository = k.repository and t.digest = k.digest`,
    parametersOf(orphaned),
  );
  if (rows.length === 0) return [];
  const isProtected = await protectedTags(transaction);
  return rows.filter(({ name, tag }) => isProtected(name, tag)).map(({ id }) => id);
}

async function judge(
  transaction: Queries,
  reviews: readonly ManifestReview[],
  held: readonly number[],
  protectedOnes: readonly number[],
  { graceSeconds, pinned }: ManifestReviewOptions,
): Promise<Judged[]> {
  return await transaction.query<Judged>(
    `select id, what,
            case what when 'young' then due when 'condemn' then now() + grace when 'waits' then condemned_at + grace end as until
       from (select k.id, m.condemned_at, g.grace, d.due,
                    case when m.digest is null then 'none'
                         when k.id <> all($7::bigint[]) then 'busy'
                         when ${manifestIsNamed(pinned, 'k.orphaned and coalesce(v.orphaned, true) and k.id <> all($9::bigint[])')} then 'named'
                         when d.due is null then 'kept'
                         when m.condemned_at is null and d.due > now() then 'young'
                         when m.condemned_at is null then 'condemn'
                         when m.condemned_at + g.grace > now() then 'waits'
                         else 'go' end as what
               from ${ROWS} cross join make_interval(secs => $8) as g (grace)
               -- A push of the same manifest, or a name that it lost since, has it wait anew.
               left join lateral (
                 select q.at, q.orphaned from review_requests q
                  where q.kind = 'manifest' and q.repository = k.repository and q.digest = k.digest
                  order by q.id desc limit 1) v on true
               left join manifests m on m.repository = k.repository and m.digest = k.digest
              cross join lateral (
                select coalesce(v.at, k.queued_at)
                       + case when coalesce(v.orphaned, k.orphaned) then interval '0' else make_interval(secs => k.keep) end as due) d) j`,
    [...parametersOf(reviews), held, graceSeconds, protectedOnes],
  );
}

async function mark(transaction: Queries, reviews: readonly ManifestReview[], isCondemned: boolean): Promise<void> {
  if (reviews.length === 0) return;
  await transaction.query(
    `update manifests m set condemned_at = case when $7 then now() end
       from ${ROWS} where m.repository = k.repository and m.digest = k.digest and (m.condemned_at is null) = $7`,
    [...parametersOf(reviews), isCondemned],
  );
}
