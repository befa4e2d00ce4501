import type { Database } from '../database/connect.js';
import type { RepositoryName } from '../oci/name.js';
import { listReferrers } from './referrers.js';
import { listRepositories } from './repositories.js';
import type { Tags } from './tags.js';

/** How many repositories are looked through at a time for those that a key may see. */
const CATALOG_BATCH = 1_000;

/** Everything that is listed, page by page, in byte order. */
export class Lists {
  readonly #database: Database;
  readonly #tags: Tags;

  constructor(database: Database, tags: Tags) {
    this.#database = database;
    this.#tags = tags;
  }

  /** @throws 'NameUnknown' */
  async tags(repository: RepositoryName, last: string, limit: number): Promise<string[]> {
    return await this.#tags.list(repository, last, limit);
  }

  /** At most `limit` repositories after `last` that `maySee` lets through. */
  async repositories(last: string, limit: number, maySee: (name: RepositoryName) => boolean): Promise<string[]> {
    const found: string[] = [];
    for (let after = last; found.length < limit; ) {
      const batch = await listRepositories(this.#database, after, Math.max(limit - found.length, CATALOG_BATCH));
      const end = batch.at(-1);
      if (end === undefined) break;
      found.push(...batch.filter((name) => maySee(name as RepositoryName)));
      after = end;
    }
    return found.slice(0, limit);
  }

  async referrers(query: Parameters<typeof listReferrers>[1]) {
    return await listReferrers(this.#database, query);
  }
}
