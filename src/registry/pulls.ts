import type { Queries } from '../database/connect.js';
import type { Log } from '../log.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';

export interface PullsOptions {
  readonly queries: Queries;
  readonly log: Log;
  /** How many manifests are kept in mind at most; beyond it those that were not noted yet are dropped, and counted. */
  readonly capacity: number;
  /** How often what was gathered is written, in milliseconds. */
  readonly everyMs: number;
}

/** What became of pulls since the process began. */
export interface PullStatistics {
  /** Pulls that were noted. */
  readonly pulls: number;
  /** Pulls and signs of use for which there was no room. */
  readonly dropped: number;
  /** Writings that failed; what they were to write waits for the next one. */
  readonly failures: number;
}

/** Of one manifest, since the last writing. */
interface Noted {
  pulls: number;
  /** When last, by the monotonic clock; PostgreSQL makes a time of it by its own, so that no node's clock matters. */
  at: number;
}

/** So many manifests are held by one statement. */
const BATCH = 1_000;

/**
 * Pulls of manifests, and signs that they are in use, gathered in memory and written in the background: a pull does no
 * more for it than to change a map. What a process has not written when it is killed is lost.
 *
 * Races: a flush holds its manifests FOR KEY SHARE, which no push and no other flush minds, and passes over those that
 * somebody has FOR UPDATE: so it never waits for a manifest. Rows of `manifest_pulls` it writes in the order of their key,
 * only while it holds their manifests.
 * - Two flushes wait for each other's rows in one order; there is no circle.
 * - A removal waits at the manifest for a flush that holds it (one statement), and its cascade then meets nobody. A flush
 *   that comes later passes over the manifest, and finds it gone the next time.
 * - The collector passes over a manifest that a flush holds, and comes back to it some seconds later.
 * - Removed and pushed again before the flush: counts for the new one, which has the same bytes and the same name.
 * - A connection that breaks at the COMMIT: what was written may be written again. A pull counts twice rather than never.
 */
export class Pulls {
  readonly #options: PullsOptions;
  readonly #timer: NodeJS.Timeout;
  /** By repository and digest: no name has a blank. */
  #gathered = new Map<string, Noted>();
  /** What a flush that is under way has not written yet. */
  #taken = new Map<string, Noted>();
  #flushing: Promise<void> = Promise.resolve();
  #pulls = 0;
  #dropped = 0;
  #failures = 0;

  constructor(options: PullsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => {
      // One that takes longer than that is not followed by a row of others.
      if (this.#taken.size === 0) void this.flush();
    }, options.everyMs).unref();
  }

  /** @param counts whether its bytes were sent; otherwise it only shows that somebody uses it. */
  note(repository: RepositoryName, digest: Digest, counts: boolean): void {
    const key = `${repository} ${digest}`;
    const pulls = counts ? 1 : 0;
    const noted = this.#gathered.get(key);
    if (noted) {
      noted.pulls += pulls;
      noted.at = performance.now();
    } else if (this.#gathered.size + this.#taken.size < this.#options.capacity) {
      this.#gathered.set(key, { pulls, at: performance.now() });
    } else {
      this.#dropped += 1;
      return;
    }
    this.#pulls += pulls;
  }

  /** Writes what was gathered, after a writing that is under way. Failures are logged. */
  async flush(): Promise<void> {
    this.#flushing = this.#flushing.then(() => this.#writeAll());
    await this.#flushing;
  }

  /** Writes the last ones. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }

  statistics(): PullStatistics {
    return { pulls: this.#pulls, dropped: this.#dropped, failures: this.#failures };
  }

  async #writeAll(): Promise<void> {
    const taken = this.#gathered;
    this.#taken = taken;
    this.#gathered = new Map();
    const entries = [...taken];
    try {
      for (let from = 0; from < entries.length; from += BATCH) {
        const batch = entries.slice(from, from + BATCH);
        const held = await write(this.#options.queries, batch);
        for (const [index, [key]] of batch.entries()) if (!held.has(index)) taken.delete(key);
      }
    } catch (error) {
      this.#failures += 1;
      this.#options.log.warn({ err: error, manifests: taken.size }, 'pulls could not be written yet');
    }
    this.#taken = new Map();
    for (const [key, { pulls, at }] of taken) {
      const later = this.#gathered.get(key);
      if (later) later.pulls += pulls;
      else this.#gathered.set(key, { pulls, at });
    }
  }
}

/** @returns the places in the batch of manifests that are there, but held by somebody else: they were passed over. */
async function write(queries: Queries, batch: readonly (readonly [string, Noted])[]): Promise<ReadonlySet<number>> {
  const now = performance.now();
  const names = batch.map(([key]) => key.split(' '));
  // Each manifest by its own look-up: PostgreSQL must not begin with all of a repository.
  const rows = await queries.query<{ n: number }>(
    `with noted as materialized (
       select k.*, (select id from repositories where name = k.name) as repository
         from unnest($1::text[], $2::text[], $3::bigint[], $4::float8[]) with ordinality as k (name, digest, pulls, age, n)),
     held as materialized (
       select k.n, h.repository, h.digest, k.pulls, k.age
         from noted k cross join lateral (
           select m.repository, m.digest from manifests m where m.repository = k.repository and m.digest = k.digest
              for key share skip locked) h),
     written as (
       insert into manifest_pulls as p (repository, digest, pulls, pulled_at)
       select repository, digest, pulls, now() - make_interval(secs => age) from held order by repository, digest
       on conflict (repository, digest) do update
         set pulls = p.pulls + excluded.pulls, pulled_at = greatest(p.pulled_at, excluded.pulled_at))
     select k.n from noted k
      where not exists (select from held h where h.n = k.n)
        and exists (select from manifests m where m.repository = k.repository and m.digest = k.digest)`,
    [
      names.map(([name]) => name),
      names.map(([, digest]) => digest),
      batch.map(([, { pulls }]) => pulls),
      batch.map(([, { at }]) => (now - at) / 1000),
    ],
  );
  return new Set(rows.map(({ n }) => n - 1));
}
