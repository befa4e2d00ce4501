import type { Database } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { Reference, RepositoryName } from '../oci/name.js';
import { type Actor, announce, type ChangeObserver } from './changes.js';
import { lostToRemoval, type ManifestPush, putManifest, removeManifest, unknownManifest } from './manifest-rows.js';

/** A manifest as it was pushed. */
export interface StoredManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Bytes. */
  readonly size: number;
}

/** Reads the manifest's config as JSON, where somebody wants it, before the transaction of a push, which waits for no bytes. */
export type PushInspector = (push: ManifestPush) => Promise<unknown>;

/**
 * Thrown by an observer of a push that has to hold its repository alone, from its first statement on: it is done anew so.
 * A lock that was taken by many can't be made stronger without deadlocks.
 */
export class NotAlone extends Error {
  override readonly name = 'NotAlone';
}

export interface ManifestsOptions {
  readonly database: Database;
  readonly observers: readonly ChangeObserver[];
  readonly inspect?: PushInspector | undefined;
}

const MAX_ATTEMPTS = 5;

/** Manifests of repositories: opaque bytes, and what they name. */
export class Manifests {
  readonly #options: ManifestsOptions;

  constructor(options: ManifestsOptions) {
    this.#options = options;
  }

  /** What HEAD needs. @throws 'ManifestUnknown' */
  async get(repository: RepositoryName, reference: Reference): Promise<StoredManifest> {
    return await this.#select<StoredManifest>(repository, reference, '');
  }

  /** What GET needs, with the bytes exactly as they were pushed. @throws 'ManifestUnknown' */
  async getPayload(
    repository: RepositoryName,
    reference: Reference,
  ): Promise<StoredManifest & { readonly payload: Buffer }> {
    return await this.#select<StoredManifest & { payload: Buffer }>(repository, reference, ', m.payload');
  }

  async #select<Row extends StoredManifest>(
    repository: RepositoryName,
    reference: Reference,
    more: '' | ', m.payload',
  ): Promise<Row> {
    const columns = `m.digest, m.media_type as "mediaType", m.size${more}`;
    const byTag = 'tag' in reference;
    const [row] = await this.#options.database.query<Row>(
      byTag
        ? // Not as joins: with statistics that lag behind, PostgreSQL has begun with all manifests of the repository.
          `select ${columns} from manifests m
            where m.repository = (select id from repositories where name = $1)
              and m.digest = (select digest from tags where repository = (select id from repositories where name = $1) and name = $2)`
        : `select ${columns} from repositories r join manifests m on m.repository = r.id where r.name = $1 and m.digest = $2`,
      [repository, byTag ? reference.tag : reference.digest],
    );
    if (!row) throw unknownManifest(reference);
    return row;
  }

  /**
   * Stores a manifest and sets its tags, or does neither.
   * @throws 'ManifestBlobUnknown', naming the blobs that are not in the repository.
   */
  async put(push: ManifestPush, actor: Actor): Promise<void> {
    const { database, observers, inspect } = this.#options;
    const { repository, digest, manifest, tags } = push;
    const size = push.payload.length;
    const config = await inspect?.(push);
    let alone = false;
    for (let attempt = 1; ; attempt++) {
      try {
        await database.transaction(async (transaction) => {
          const moved = await putManifest(transaction, push, actor, alone);
          await announce(
            observers,
            { kind: 'manifest-pushed', repository, digest, size, manifest, tags, moved, config, alone },
            actor,
            transaction,
          );
        });
        return;
      } catch (error) {
        const wanted: boolean = error instanceof NotAlone && !alone;
        if ((!wanted && !lostToRemoval(error)) || attempt >= MAX_ATTEMPTS) throw error;
        alone ||= wanted;
      }
    }
  }

  /** Removes a manifest and with it every tag that points to it. @throws 'ManifestUnknown' */
  async remove(repository: RepositoryName, digest: Digest, actor: Actor): Promise<void> {
    const { database, observers } = this.#options;
    await database.transaction(async (transaction) => {
      const removed = await removeManifest(transaction, repository, digest, actor);
      await announce(observers, { kind: 'manifest-removed', repository, digest, ...removed }, actor, transaction);
    });
  }
}
