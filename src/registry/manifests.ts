import type { Database } from '../database/connect.js';
import { GatheredLookups } from '../database/gathered.js';
import { isFailure, RegistryError } from '../errors.js';
import { algorithmOf, type Digest, digestOf } from '../oci/digest.js';
import type { Reference, RepositoryName } from '../oci/name.js';
import { type Admission, admitNew } from './admission.js';
import { type Actor, announce, type ChangeObserver } from './changes.js';
import { Remembered } from './remembered.js';
import { lostToRemoval, type ManifestPush, putManifest, removeManifest, unknownManifest } from './manifest-rows.js';

/** A manifest as it was pushed. */
export interface StoredManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Bytes. */
  readonly size: number;
}

export interface WholeManifest extends StoredManifest {
  readonly payload: Buffer;
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
  /** Refuses what may not come in; without it everything may. */
  readonly admit?: Admission | undefined;
  readonly inspect?: PushInspector | undefined;
}

const MAX_ATTEMPTS = 5;

interface LookUps<Row extends object> {
  readonly byTag: GatheredLookups<Row>;
  readonly byDigest: GatheredLookups<Row>;
}

/**
 * By the name of the repository and a tag or a digest. Not as joins: with statistics that lag behind, PostgreSQL has begun
 * with all manifests of the repository.
 */
function lookUps<Row extends StoredManifest>(database: Database, more: '' | ', m.payload'): LookUps<Row> {
  const by = (digest: string) =>
    new GatheredLookups<Row>(
      database,
      `select k.n, f.* from unnest($1::text[], $2::text[]) with ordinality as k (repository, reference, n)
        cross join lateral (
          select m.digest, m.media_type as "mediaType", m.size${more} from manifests m
           where m.repository = (select id from repositories where name = k.repository) and m.digest = ${digest}
             and m.condemned_at is null limit 1) f`,
    );
  return {
    byTag: by(
      '(select digest from tags where repository = (select id from repositories where name = k.repository) and name = k.reference)',
    ),
    byDigest: by('k.reference'),
  };
}

async function select<Row extends StoredManifest>(
  { byTag, byDigest }: LookUps<Row>,
  repository: RepositoryName,
  reference: Reference,
): Promise<Row> {
  const row =
    'tag' in reference
      ? await byTag.find(repository, reference.tag)
      : await byDigest.find(repository, reference.digest);
  if (!row) throw unknownManifest(reference);
  return row;
}

/**
 * A manifest whose bytes are what its digest says: hashing them takes some microseconds, and is done each time that they are read.
 * @throws 'ManifestDamaged'
 */
export function intact<Row extends { readonly digest: Digest; readonly payload: Buffer }>(manifest: Row): Row {
  const { digest, payload } = manifest;
  if (digestOf(algorithmOf(digest), payload) === digest) return manifest;
  throw new RegistryError('ManifestDamaged', 'the stored bytes of this manifest are damaged; push it again', {
    detail: { digest },
  });
}

/** Manifests of repositories: opaque bytes, and what they name. */
export class Manifests {
  readonly #options: ManifestsOptions;
  readonly #headLookUps: LookUps<StoredManifest>;
  readonly #wholeLookUps: LookUps<WholeManifest>;
  readonly #heads = new Remembered<StoredManifest>();
  readonly #wholes = new Remembered<WholeManifest>({ sizeOf: ({ size }) => size });

  constructor(options: ManifestsOptions) {
    this.#options = options;
    this.#headLookUps = lookUps(options.database, '');
    this.#wholeLookUps = lookUps(options.database, ', m.payload');
  }

  /** What HEAD needs. @throws 'ManifestUnknown' */
  async get(repository: RepositoryName, reference: Reference): Promise<StoredManifest> {
    return await this.#heads.get(nameOf(repository, reference), () => select(this.#headLookUps, repository, reference));
  }

  /** What GET needs, with the bytes exactly as they were pushed. @throws 'ManifestUnknown', 'ManifestDamaged' */
  async getPayload(repository: RepositoryName, reference: Reference): Promise<WholeManifest> {
    const load = async () => intact(await select(this.#wholeLookUps, repository, reference));
    return await this.#wholes.get(nameOf(repository, reference), load);
  }

  /**
   * Stores a manifest and sets its tags, or does neither.
   * @throws 'ManifestBlobUnknown', naming the blobs that are not in the repository; 'Denied'.
   */
  async put(push: ManifestPush, actor: Actor): Promise<void> {
    const { database, observers, inspect, admit } = this.#options;
    const { repository, digest, manifest, tags } = push;
    const size = push.payload.length;
    await admitNew(admit, repository, { what: 'manifest' }, () => this.#isThere(repository, digest));
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

  async #isThere(repository: RepositoryName, digest: Digest): Promise<boolean> {
    return await this.get(repository, { digest }).then(
      () => true,
      (error: unknown) => {
        if (isFailure(error, 'ManifestUnknown')) return false;
        throw error;
      },
    );
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

/** No name has a blank, no tag a colon. */
function nameOf(repository: RepositoryName, reference: Reference): string {
  return `${repository} ${'tag' in reference ? reference.tag : reference.digest}`;
}
