import type { Database } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import type { RepositoryName, Tag } from '../oci/name.js';
import { type Actor, announce, type ChangeObserver } from './changes.js';
import { findRepository } from './repositories.js';
import { removeTags } from './tag-rows.js';

export interface TagsOptions {
  readonly database: Database;
  readonly observers: readonly ChangeObserver[];
}

/** Tags of repositories. */
export class Tags {
  readonly #options: TagsOptions;

  constructor(options: TagsOptions) {
    this.#options = options;
  }

  /**
   * At most `limit` tags after `last`, in byte order (distribution-spec, "Listing Tags").
   * @throws 'NameUnknown' if there is no such repository.
   */
  async list(repository: RepositoryName, last: string, limit: number): Promise<string[]> {
    const rows = await this.#options.database.query<{ name: string | null }>(
      `select t.name from repositories r left join lateral (
         select name from tags where repository = r.id and name > $2 order by name limit $3) t on true
        where r.name = $1`,
      [repository, last, limit],
    );
    if (rows.length === 0)
      throw new RegistryError('NameUnknown', 'no such repository', { detail: { name: repository } });
    return rows.flatMap((row) => row.name ?? []);
  }

  /** Removes a tag; its manifest stays. @throws 'ManifestUnknown' if there is no such tag. */
  async remove(repository: RepositoryName, tag: Tag, actor: Actor): Promise<void> {
    await this.#options.database.transaction(async (transaction) => {
      const id = await findRepository(transaction, repository);
      const [removed] = id === undefined ? [] : await removeTags(transaction, id, [tag], actor);
      if (!removed) throw new RegistryError('ManifestUnknown', 'no such tag in this repository', { detail: { tag } });
      await announce(this.#options.observers, { kind: 'tag-removed', repository, ...removed }, actor, transaction);
    });
  }
}
