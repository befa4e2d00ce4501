// One model's repository with real rows, and transactions that a test holds open, so that two meet where they should.
import { connect, type Pool, type Queries } from '../../../src/database/connect.js';
import { checkAll } from '../../../src/metadata/check.js';
import { followChanges } from '../../../src/metadata/follow.js';
import { createModel } from '../../../src/metadata/model-changes.js';
import type { Model } from '../../../src/metadata/models.js';
import type { Caller } from '../../../src/metadata/rights.js';
import { type Digest, digestOf } from '../../../src/oci/digest.js';
import { parseManifest } from '../../../src/oci/manifest.js';
import { OCI_IMAGE_INDEX, OCI_IMAGE_MANIFEST } from '../../../src/oci/media-types.js';
import { parseRepositoryName, parseTag } from '../../../src/oci/name.js';
import { type ManifestPush, putManifest, removeManifest } from '../../../src/registry/manifest-rows.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';
import { ACTOR } from '../../support/rooms.js';

export const NAME = parseRepositoryName('crossing/model');
const LIMITS = { maxBytes: 1_000_000, maxDepth: 16, maxDescriptors: 100 };
const OCTETS = 'application/octet-stream';

/** Who may do everything, and believes nothing. */
export const CALLER: Caller = {
  actor: ACTOR,
  rights: { seesAll: true, maySee: () => true, require: () => undefined, requireAdmin: () => undefined },
  expect: () => undefined,
  record: () => Promise.resolve(),
};

export type Work<T> = (transaction: Queries) => Promise<T>;

/** A transaction that has done its work and is not committed yet. */
export interface Held<T> {
  readonly result: T;
  commit(): Promise<void>;
}

export class ModelScene {
  readonly #held: Held<unknown>[] = [];

  private constructor(
    readonly place: TestDatabase,
    readonly database: Pool,
    readonly model: Model,
  ) {}

  static async make(more: { immutable?: boolean } = {}): Promise<ModelScene> {
    const place = await createDatabase();
    const database = connect({ url: place.url, pool: 6, timeout: 10 });
    const model = await database.transaction((transaction) =>
      createModel(transaction, CALLER, { name: 'crossing', storage_path: NAME, ...more }),
    );
    return new ModelScene(place, database, model);
  }

  async dispose(): Promise<void> {
    for (const held of this.#held) await held.commit().catch(() => undefined);
    await this.database.close();
    await this.place.drop();
  }

  /** An image whose one layer is this text; with a subject, a referrer of it. The blob is there. */
  async image(text: string, subject?: ManifestPush): Promise<ManifestPush> {
    const bytes = Buffer.from(text);
    const blob = { mediaType: OCTETS, digest: digestOf('sha256', bytes), size: bytes.length };
    await this.database.query(
      `with b as (insert into bodies default values returning id),
            i as (insert into blobs (digest, size, body) select $2, $3, id from b on conflict do nothing returning digest)
       insert into repository_blobs (repository, digest) select r.id, $2 from repositories r where r.name = $1
       on conflict do nothing`,
      [NAME, blob.digest, blob.size],
    );
    const title = { 'org.opencontainers.image.title': `${text}.safetensors` };
    return pushOf({
      mediaType: OCI_IMAGE_MANIFEST,
      config: blob,
      layers: [{ ...blob, annotations: title }],
      ...(subject && {
        subject: { mediaType: OCI_IMAGE_MANIFEST, digest: subject.digest, size: subject.payload.length },
      }),
    });
  }

  /** An index of what may be there or not; sizes are as told. */
  index(...images: readonly { digest: Digest; size: number }[]): ManifestPush {
    return pushOf({
      mediaType: OCI_IMAGE_INDEX,
      manifests: images.map(({ digest, size }) => ({ mediaType: OCI_IMAGE_MANIFEST, digest, size })),
    });
  }

  /** Pushes as the registry does, with the metadata following. */
  push(manifest: ManifestPush, ...tags: string[]): Work<void> {
    return async (transaction) => {
      const push = { ...manifest, tags: tags.map(parseTag) };
      const moved = await putManifest(transaction, push, ACTOR);
      const { repository, digest, payload } = push;
      const change = { kind: 'manifest-pushed' as const, repository, digest, size: payload.length, moved };
      await followChanges({ ...change, manifest: push.manifest, tags: push.tags }, ACTOR, transaction);
    };
  }

  remove({ digest }: ManifestPush): Work<void> {
    return async (transaction) => {
      const removed = await removeManifest(transaction, NAME, digest, ACTOR);
      await followChanges({ kind: 'manifest-removed', repository: NAME, digest, ...removed }, ACTOR, transaction);
    };
  }

  async run<T>(work: Work<T>): Promise<T> {
    return await this.database.transaction(work);
  }

  /** Does the work and leaves its transaction open. */
  async hold<T>(work: Work<T>): Promise<Held<T>> {
    let commit = (): void => undefined;
    const free = new Promise<void>((resolve) => {
      commit = resolve;
    });
    return await new Promise((resolve, reject) => {
      const done = this.database.transaction(async (transaction) => {
        const result = await work(transaction);
        const held = {
          result,
          commit: async () => {
            commit();
            await done;
          },
        };
        this.#held.push(held);
        resolve(held);
        await free;
      });
      done.catch(reject);
    });
  }

  /**
   * One transaction is done but for its commit while another begins; it is committed when the other waits for it, or is over.
   * @returns what the second one came to.
   */
  async cross<T>(first: Work<unknown>, second: Work<T>): Promise<PromiseSettledResult<T>> {
    const held = await this.hold(first);
    let over = false;
    const other = Promise.allSettled([this.run(second)]).then(([result]) => {
      over = true;
      return result;
    });
    const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    while (!over && (await this.database.query(waiting)).length === 0) await new Promise(setImmediate);
    await held.commit();
    return await other;
  }

  async release(tag: string): Promise<{ id: string; digest: Digest; status: string; size_bytes: number } | undefined> {
    const [row] = await this.database.query<{ id: string; digest: Digest; status: string; size_bytes: number }>(
      'select id, digest, status, size_bytes from releases where tag = $1',
      [tag],
    );
    return row;
  }

  /** What `weighhouse check` finds, but for bytes, of which there are none. */
  async faults(): Promise<string[]> {
    const faults: string[] = [];
    for await (const checked of checkAll(this.database))
      if (!checked.name.startsWith('a blob ')) faults.push(...checked.faults);
    return faults;
  }
}

function pushOf(content: Readonly<Record<string, unknown>> & { mediaType: string }): ManifestPush {
  const payload = Buffer.from(JSON.stringify({ schemaVersion: 2, ...content }));
  const manifest = parseManifest(payload, content.mediaType, LIMITS);
  return { repository: NAME, digest: digestOf('sha256', payload), payload, manifest, tags: [] };
}
