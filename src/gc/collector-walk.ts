import type { Database, Queries } from '../database/connect.js';
import type { Job } from './jobs.js';
import { LINK_IS_NAMED, manifestIsNamed } from './names.js';
import { takeRequests } from './review-queue.js';

const PAGE = 1_000;
/** Between two pages, in milliseconds. */
const PAUSE_MS = 20;

export interface CollectorWalkOptions {
  readonly database: Database;
  /** From the end of one round to the start of the next. */
  readonly everyMs: number;
  /** Links that are newer need no review, in seconds. */
  readonly graceSeconds: number;
  /** A condition of SQL on a manifest `m` that holds where the metadata needs it. */
  readonly pinned: string;
}

/**
 * Looks through all links, manifests and blobs for such as nothing names, and queues them: those that were pushed and never
 * named, and what a change left that queues nothing, such as the end of a deployment. So no push pays for it. A page at a
 * time in the order of the primary keys; where it was is not kept, since a round can be begun anew.
 */
export function collectorWalkJob(options: CollectorWalkOptions): Job {
  const walks: readonly ((after: Place) => Promise<Place | undefined>)[] = [
    (after) => walkLinks(options, after),
    (after) => walkManifests(options, after),
    (after) => walkBlobs(options, after),
  ];
  let which = 0;
  let after = START;
  return {
    name: 'collector walk',
    everyMs: options.everyMs,
    run: async () => {
      // What was asked for has waited since then, not since it is found here.
      await takeRequests(options.database);
      const next = await walks[which]?.(after);
      after = next ?? START;
      if (!next) which = (which + 1) % walks.length;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      return next !== undefined || which > 0;
    },
  };
}

interface Place {
  readonly repository: number;
  readonly digest: string;
}

const START: Place = { repository: 0, digest: '' };

/** Queues what `found` finds in the page, whatever waits there already. @returns the last row of the page; undefined behind the last page. */
async function walk(queries: Queries, text: string, values: readonly unknown[]): Promise<Place | undefined> {
  const [last] = await queries.query<Place>(
    `with ${text},
          queued as (insert into reviews (kind, repository, digest) select kind, repository, digest from found
                      order by repository, digest on conflict do nothing)
     select repository, digest from page order by repository desc, digest desc limit 1`,
    values,
  );
  return last;
}

const walkLinks = ({ database, graceSeconds }: CollectorWalkOptions, after: Place) =>
  walk(
    database,
    `page as materialized (
       select repository, digest, linked_at, condemned_at from repository_blobs
        where (repository, digest) > ($1, $2) order by repository, digest limit $3),
     found as (
       select 'blob' as kind, l.repository, l.digest from page l
        where l.condemned_at is not null
           or (l.linked_at <= now() - make_interval(secs => $4) and not ${LINK_IS_NAMED}))`,
    [after.repository, after.digest, PAGE, graceSeconds],
  );

const walkManifests = ({ database, pinned }: CollectorWalkOptions, after: Place) =>
  walk(
    database,
    `page as materialized (
       select repository, digest, subject, condemned_at from manifests
        where (repository, digest) > ($1, $2) order by repository, digest limit $3),
     found as (
       select 'manifest' as kind, m.repository, m.digest from page m
        where m.condemned_at is not null or not ${manifestIsNamed(pinned)})`,
    [after.repository, after.digest, PAGE],
  );

const walkBlobs = ({ database }: CollectorWalkOptions, after: Place) =>
  walk(
    database,
    `page as materialized (
       select 0::bigint as repository, digest from blobs where digest > $1 order by digest limit $2),
     found as (
       select 'blob' as kind, null::bigint as repository, b.digest from page b
        where not exists (select from repository_blobs l where l.digest = b.digest))`,
    [after.digest, PAGE],
  );
