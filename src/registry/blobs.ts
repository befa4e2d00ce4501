import type { Database, Queries } from '../database/connect.js';
import { brokenConstraint } from '../database/connect.js';
import { GatheredLookups } from '../database/gathered.js';
import { isFailure, RegistryError } from '../errors.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import type { ByteRange } from '../oci/range.js';
import {
  isRedirecting,
  type PausePoint,
  type RedirectingSegmentStore,
  type SegmentKey,
  type SegmentStore,
} from '../storage/segment-store.js';
import { readBody, SEGMENTS_JSON, type Segment, wholeObject } from './bodies.js';
import { type Actor, announce, type ChangeObserver } from './changes.js';
import { outlast, Remembered } from './remembered.js';
import { ensureRepository } from './repositories.js';
import { reviewBlobs } from './reviews.js';

/** A blob as a repository shows it. */
export interface Blob {
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
}

/** A blob whose bytes can be read. */
export interface OpenableBlob extends Blob {
  /** The key of the one object that is exactly this blob, if there is such; only then may others than the registry read it. */
  readonly wholeObject: string | undefined;
  /** An address of that object for a client, where the store gives any. @throws 'BlobDamaged' */
  readonly urlFor?: ((lifetimeSeconds: number) => Promise<URL>) | undefined;
  /**
   * Reads a range, in pieces that are lent until the next one is asked for. @throws 'BlobDamaged' before the first byte if it can be told by then, else out of the iteration.
   */
  open(range: ByteRange): Promise<AsyncIterable<Uint8Array> & AsyncDisposable>;
}

export interface BlobsOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly observers: readonly ChangeObserver[];
  readonly pause: PausePoint;
  /** How long the first bytes of a blob may take. */
  readonly storageTimeoutSeconds: number;
}

interface BlobRow {
  readonly size: number;
  readonly quarantined: boolean;
  readonly segments: Segment[];
}

const MAX_MOUNT_SOURCES = 100;

/** Blobs of repositories: facts from rows, bytes from segments. */
export class Blobs {
  readonly #options: BlobsOptions;
  readonly #lookUp: GatheredLookups<{ readonly size: number }>;
  readonly #sizes = new Remembered<number>();
  readonly #rows = new Remembered<BlobRow>({
    sizeOf: ({ segments }) => segments.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0),
  });

  constructor(options: BlobsOptions) {
    this.#options = options;
    this.#lookUp = new GatheredLookups(
      options.database,
      `select k.n, f.size from unnest($1::text[], $2::text[]) with ordinality as k (repository, digest, n)
        cross join lateral (
          select b.size from blobs b
           where b.digest = k.digest and b.quarantined_at is null and exists (
             select from repository_blobs l
              where l.repository = (select id from repositories where name = k.repository) and l.digest = k.digest
                and l.condemned_at is null) limit 1) f`,
    );
  }

  /** What HEAD needs, by one query and without the store. @throws 'BlobUnknown' */
  async get(repository: RepositoryName, digest: Digest): Promise<Blob> {
    const size = await this.#sizes.get(`${repository} ${digest}`, async () => {
      const row = await this.#lookUp.find(repository, digest);
      if (!row) throw unknownBlob(digest);
      return row.size;
    });
    return { digest, size };
  }

  /** What GET needs, by one query. @throws 'BlobUnknown', 'BlobDamaged' */
  async getOpenable(repository: RepositoryName, digest: Digest): Promise<OpenableBlob> {
    const row = await this.#rows.get(`${repository} ${digest}`, () => this.#row(repository, digest));
    const whole = wholeObject(row.segments);
    const { store } = this.#options;
    const urlFor =
      whole && isRedirecting(store)
        ? (lifetimeSeconds: number) => this.#urlFor(store, whole, row.size, lifetimeSeconds)
        : undefined;
    return {
      digest,
      size: row.size,
      wholeObject: whole,
      urlFor,
      open: (range) => this.#open(repository, digest, row, range),
    };
  }

  /** Nobody is sent to where the bytes are not. */
  async #urlFor(store: RedirectingSegmentStore, key: SegmentKey, size: number, lifetimeSeconds: number): Promise<URL> {
    const there = await this.#inTime(store.stat(key));
    if (there?.size === size) return await store.urlFor(key, lifetimeSeconds);
    const cause = new Error(`segment ${key}: ${size} bytes wanted, ${there?.size ?? 'none'} are there`);
    throw new RegistryError('BlobDamaged', 'the stored bytes of this blob are damaged', { cause });
  }

  async #row(repository: RepositoryName, digest: Digest): Promise<BlobRow> {
    const [row] = await this.#options.database.query<BlobRow>(
      `select b.size, b.quarantined_at is not null as quarantined, ${SEGMENTS_JSON} as segments
         from repositories r join repository_blobs l on l.repository = r.id join blobs b on b.digest = l.digest
        where r.name = $1 and l.digest = $2 and l.condemned_at is null`,
      [repository, digest],
    );
    if (!row) throw unknownBlob(digest);
    if (row.quarantined)
      throw new RegistryError('BlobDamaged', 'the stored bytes of this blob are damaged; push it again');
    return row;
  }

  /** Begins to read, so that what is wrong at the first byte is an error here. */
  async #open(repository: RepositoryName, digest: Digest, row: BlobRow, range: ByteRange) {
    await this.#options.pause('blob:before-open');
    const bytes = this.#read(repository, digest, row, range);
    const first = await this.#inTime(bytes.next()).catch((error: unknown) => {
      // Not waited for: it ends when the store answers.
      void bytes.return().catch(() => undefined);
      throw error;
    });
    async function* all(): AsyncGenerator<Uint8Array> {
      try {
        if (first.done) return;
        yield first.value;
        yield* bytes;
      } finally {
        // Who leaves at the first piece never gets to the rest, which holds the file open.
        await bytes.return();
      }
    }
    return Object.assign(all(), {
      async [Symbol.asyncDispose]() {
        await bytes.return();
      },
    });
  }

  /** A store that hangs is an answer too, as long as the head is not sent. @throws 'Unavailable' */
  async #inTime<T>(first: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      const error = new RegistryError('Unavailable', 'the storage does not answer', { retryAfter: 5 });
      timer = setTimeout(() => reject(error), this.#options.storageTimeoutSeconds * 1000);
    });
    return await Promise.race([first, late]).finally(() => clearTimeout(timer));
  }

  /** A key that is gone may have been replaced since the rows were read: then they are read again, and it goes on there. */
  async *#read(
    repository: RepositoryName,
    digest: Digest,
    row: BlobRow,
    range: ByteRange,
  ): AsyncGenerator<Uint8Array, void> {
    let { segments } = row;
    let { start } = range;
    for (;;) {
      try {
        for await (const bytes of readBody(this.#options.store, segments, { start, end: range.end })) {
          start += bytes.length;
          yield bytes;
        }
        return;
      } catch (error) {
        if (!isFailure(error, 'BlobDamaged')) throw error;
        const fresh = await this.#row(repository, digest);
        if (keysOf(fresh.segments) === keysOf(segments)) throw error;
        segments = fresh.segments;
      }
    }
  }

  /**
   * Links a blob that another repository has, without moving bytes.
   * @param from the repository to take it from; undefined: any in which `mayPull` allows it.
   * @returns where it came from, or undefined if it can't be mounted: then the client has to upload it.
   */
  async mount(
    repository: RepositoryName,
    digest: Digest,
    from: RepositoryName | undefined,
    mayPull: (name: RepositoryName) => boolean,
    actor: Actor,
  ): Promise<RepositoryName | undefined> {
    if (from !== undefined && !mayPull(from)) return undefined;
    return await this.#options.database.transaction(async (transaction) => {
      const sources = await lockSources(transaction, digest, from);
      const source = sources.find(mayPull);
      if (source === undefined) return undefined;
      const id = await ensureRepository(transaction, repository);
      await transaction.query(
        `insert into repository_blobs (repository, digest) values ($1, $2)
         on conflict (repository, digest) do update set linked_at = now(), condemned_at = null`,
        [id, digest],
      );
      await announce(
        this.#options.observers,
        { kind: 'blob-mounted', repository, digest, from: source },
        actor,
        transaction,
      );
      return source;
    });
  }

  /**
   * Takes a blob out of a repository; its bytes are the collector's affair.
   * @throws 'BlobUnknown'; 'BlobReferenced' if a manifest of the repository names it, or a draft has it as a file.
   */
  async remove(repository: RepositoryName, digest: Digest, actor: Actor): Promise<void> {
    await this.#options.database.transaction(async (transaction) => {
      const [link] = await unlink(transaction, repository, digest);
      if (!link) throw unknownBlob(digest);
      await reviewBlobs(transaction, link.repository, [digest]);
      await announce(this.#options.observers, { kind: 'blob-removed', repository, digest }, actor, transaction);
    });
  }
}

/** Where a blob can be seen. Locks its row, as commit and the collector do, so that it stays while it is linked once more. */
async function lockSources(
  transaction: Queries,
  digest: Digest,
  from: RepositoryName | undefined,
): Promise<RepositoryName[]> {
  const live = await transaction.query('select from blobs where digest = $1 and quarantined_at is null for share', [
    digest,
  ]);
  if (live.length === 0) return [];
  const rows = await transaction.query<{ name: RepositoryName }>(
    `select r.name from repository_blobs l join repositories r on r.id = l.repository
      where l.digest = $1 and l.condemned_at is null and ($2::text is null or r.name = $2) order by l.linked_at limit $3`,
    [digest, from ?? null, MAX_MOUNT_SOURCES],
  );
  return rows.map((row) => row.name);
}

async function unlink(
  transaction: Queries,
  repository: RepositoryName,
  digest: Digest,
): Promise<{ repository: number }[]> {
  try {
    outlast(transaction);
    return await transaction.query(
      'delete from repository_blobs l using repositories r where r.id = l.repository and r.name = $1 and l.digest = $2 returning l.repository',
      [repository, digest],
    );
  } catch (error) {
    if (!['manifest_references_blob', 'artifacts_blob'].includes(brokenConstraint(error) ?? '')) throw error;
    throw new RegistryError(
      'BlobReferenced',
      'a manifest of this repository names this blob, or a draft has it as a file; delete that first',
      {
        cause: error,
        detail: { digest },
      },
    );
  }
}

function keysOf(segments: readonly Segment[]): string {
  return segments.map((segment) => segment.key).join();
}

function unknownBlob(digest: Digest): RegistryError {
  return new RegistryError('BlobUnknown', 'no such blob in this repository', { detail: { digest } });
}
