import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';

const PAGE = 1_000;

/** A blob that is not one object of exactly its length. */
export interface Scattered {
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  readonly body: number;
}

/**
 * A walk through all live blobs in the order of their digests, page by page, so that no statement takes long and no index
 * is kept for it.
 */
export class CompactionWalk {
  readonly #queries: Queries;
  readonly #minBytes: number;
  #after = '';
  #found: Scattered[] = [];

  constructor(queries: Queries, minBytes: number) {
    this.#queries = queries;
    this.#minBytes = minBytes;
  }

  /** The next of those that are to be compacted, or undefined at the end; the one after that is the first again. */
  async next(): Promise<Scattered | undefined> {
    while (this.#found.length === 0) {
      const last = await this.#look();
      if (last === null) {
        this.#after = '';
        return undefined;
      }
      this.#after = last;
    }
    return this.#found.shift();
  }

  /** @returns the last digest of the page, null behind the last page. */
  async #look(): Promise<string | null> {
    const [page] = await this.#queries.query<{ last: string | null; found: Scattered[] }>(
      `with page as materialized (
         select digest, size, body from blobs
          where digest > $1 and quarantined_at is null order by digest limit $2),
       found as (
         select digest, size, body from page p where size >= greatest($3::bigint, 1)
            and (select count(*) <> 1 or bool_or(s.object_size is distinct from s.length)
                   from segments s where s.body = p.body and s.position is not null))
       select (select max(digest) from page) as last, coalesce((select json_agg(found order by digest) from found), '[]') as found`,
      [this.#after, PAGE, this.#minBytes],
    );
    this.#found = page?.found ?? [];
    return page?.last ?? null;
  }
}
