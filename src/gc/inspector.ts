import type { Actor } from '../actor.js';
import type { Database } from '../database/connect.js';
import type { Log } from '../log.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { SEGMENTS_JSON } from '../registry/bodies.js';
import { announce, type ChangeObserver } from '../registry/changes.js';
import { requireOwnStore } from '../registry/installation.js';
import { quarantine, repositoriesOf } from '../registry/quarantine.js';
import { outlast } from '../registry/remembered.js';
import type { PausePoint, SegmentStore } from '../storage/segment-store.js';
import type { Healer } from './healer.js';
import { type BlobRows, type Damage, lookAt, type LookOptions } from './scrub-look.js';

/** A blob whose bytes are wrong, or were when it was quarantined. */
export interface BlobFault {
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  readonly repositories: readonly RepositoryName[];
  /** Undefined: it was quarantined before, and its bytes are right now. */
  readonly damage: Damage | undefined;
  /** Whether it was not quarantined before. */
  readonly isNew: boolean;
  /** Whether it has its right bytes again. */
  readonly healed: boolean;
}

export interface InspectorOptions extends LookOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
  readonly pause: PausePoint;
  /** Told of quarantines, by `actor`. */
  readonly observers: readonly ChangeObserver[];
  readonly actor: Actor;
  readonly healer: Healer;
}

/** Looks at one blob after the other, and takes those out of use whose bytes are wrong (decision 0027). */
export class Inspector {
  readonly #options: InspectorOptions;

  constructor(options: InspectorOptions) {
    this.#options = options;
  }

  /**
   * @returns what is wrong with the blob, or was; undefined if nothing is, or if it went away or got other bytes meanwhile.
   * @throws 'Unavailable' when the store or the database failed: then nothing is said of the blob.
   */
  async inspect(digest: Digest, signal: AbortSignal): Promise<BlobFault | undefined> {
    const blob = await this.#load(digest);
    if (!blob) return undefined;
    if (blob.quarantined) return await this.#revisit(blob, signal);
    const suspicion = await lookAt(blob, this.#options, signal);
    if (!suspicion.damage) {
      for (const { key, size } of suspicion.longer) await this.#markRagged(digest, key, size);
      return undefined;
    }
    const damage = await this.#confirm(blob, suspicion.damage, signal);
    if (!damage) return undefined;
    const { log, healer } = this.#options;
    const repositories = await this.#quarantine(blob, damage);
    if (!repositories) return undefined;
    // A field `key` would not be shown: it might be one of the API.
    const { key: object, ...what } = { key: undefined, ...damage };
    log.error(
      { digest, size: blob.size, object, ...what },
      'the stored bytes of a blob are damaged: it is quarantined',
    );
    return { digest, size: blob.size, repositories, damage, isNew: true, healed: await healer.heal(digest, signal) };
  }

  async #load(digest: Digest): Promise<BlobRows | undefined> {
    const [row] = await this.#options.database.query<BlobRows>(
      `select b.digest, b.size, b.body, b.quarantined_at is not null as quarantined, ${SEGMENTS_JSON} as segments
         from blobs b where b.digest = $1`,
      [digest],
    );
    return row;
  }

  /**
   * Looks a second time, by rows that are read anew, at a store that is surely the right one: a folder that is not mounted
   * is empty, and a gateway may answer anything while it is being moved.
   */
  async #confirm(blob: BlobRows, suspicion: Damage, signal: AbortSignal): Promise<Damage | undefined> {
    const { database, store, log, pause } = this.#options;
    const { digest } = blob;
    await pause('scrub:suspected');
    await requireOwnStore(database, store);
    const fresh = await this.#load(digest);
    if (!fresh || fresh.body !== blob.body || fresh.quarantined) return undefined;
    const { damage } = await lookAt(fresh, this.#options, signal);
    await requireOwnStore(database, store);
    if (!damage) log.warn({ digest, ...suspicion }, 'a blob looked damaged, and did not when it was looked at again');
    await pause('scrub:confirmed');
    return damage;
  }

  /** @returns the repositories that have it; undefined if it is another by now. */
  async #quarantine(blob: BlobRows, damage: Damage): Promise<RepositoryName[] | undefined> {
    const { database, observers, actor, pause } = this.#options;
    const { digest, size } = blob;
    return await database.transaction(async (transaction) => {
      if (!(await quarantine(transaction, blob))) return undefined;
      const repositories = await repositoriesOf(transaction, digest);
      const change = { kind: 'blob-quarantined', digest, size, repositories, fault: { ...damage } } as const;
      await announce(observers, change, actor, transaction);
      await pause('scrub:in-quarantine');
      return repositories;
    });
  }

  /** One that was quarantined before may have been put right in the store, or be healed now. */
  async #revisit(blob: BlobRows, signal: AbortSignal): Promise<BlobFault | undefined> {
    const { database, healer } = this.#options;
    const { digest, size } = blob;
    const repositories = await repositoriesOf(database, digest);
    const { damage } = await lookAt(blob, { ...this.#options, deep: true }, signal);
    if (!damage && !(await healer.release(blob))) return undefined;
    const healed = !damage || (await healer.heal(digest, signal));
    return { digest, size, repositories, damage, isNew: false, healed };
  }

  /** Whoever is sent to an object gets all of it: to one that is longer than its row nobody is sent any more. */
  async #markRagged(digest: Digest, key: string, size: number): Promise<void> {
    const { database, log } = this.#options;
    await database.transaction(async (transaction) => {
      outlast(transaction);
      await transaction.query('update segments set object_size = $2 where key = $1 and object_size = length', [
        key,
        size,
      ]);
    });
    log.warn(
      { digest, key, size },
      'an object is longer than its row: only the registry reads it until it is compacted',
    );
  }
}
