// What the tests of the collector share: two "processes" on one database, a collector of each, and time that passes.
import { type CollectorOptions, collectorJob } from '../../src/gc/collector.js';
import { collectorWalkJob } from '../../src/gc/collector-walk.js';
import { recordChanges } from '../../src/gc/records.js';
import { auditChanges } from '../../src/metadata/audit.js';
import { followChanges } from '../../src/metadata/follow.js';
import { PINNED } from '../../src/metadata/pins.js';
import { type Digest, digestOf } from '../../src/oci/digest.js';
import { parseManifest } from '../../src/oci/manifest.js';
import { parseTag, type RepositoryName } from '../../src/oci/name.js';
import { type Change, type ChangeObserver, recordBy } from '../../src/registry/changes.js';
import type { ManifestPush } from '../../src/registry/manifest-rows.js';
import { silent } from '../support/postgres.js';
import { ACTOR, type Rooms } from '../support/rooms.js';
import { NAME } from './races-scene.js';

const IMAGE = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const EMPTY = 'application/vnd.oci.empty.v1+json';
const LIMITS = { maxBytes: 65_536, maxDepth: 64, maxDescriptors: 1000 };
export const GRACE = 3600;
export const UNTAGGED = 7 * 24 * 3600;

export const OBSERVERS = [followChanges, recordBy(recordChanges, auditChanges)];

/** What the collector did, in numbers. */
export interface Counts {
  condemned: number;
  links: number;
  blobs: number;
  manifests: number;
  bytes: number;
}

/** The collector of a process: `round` walks, and decides everything that is due. */
export function collectorOf(rooms: Rooms, options: Partial<CollectorOptions> = {}) {
  const counts: Counts = { condemned: 0, links: 0, blobs: 0, manifests: 0, bytes: 0 };
  const { database, pauses } = rooms;
  const job = collectorJob({
    database,
    log: silent,
    pause: pauses.point,
    observers: OBSERVERS,
    observer: {
      reviewed: () => undefined,
      condemned: (_kind, count) => {
        counts.condemned += count;
      },
      removed: (kind, count) => {
        counts[`${kind}s`] += count;
      },
      freed: (bytes) => {
        counts.bytes += bytes;
      },
    },
    everyMs: 1_000,
    graceSeconds: GRACE,
    manifestGraceSeconds: GRACE,
    readGraceSeconds: 60,
    pinned: PINNED,
    untagged: () => Promise.resolve(() => UNTAGGED),
    protectedTags: () => Promise.resolve(() => false),
    objectsPerSecond: 1_000_000,
    bytesPerSecond: 0,
    ...options,
  });
  const walk = collectorWalkJob({ database, everyMs: 1_000, graceSeconds: GRACE, pinned: PINNED });
  const decide = async () => {
    while (await job.run());
  };
  const round = async () => {
    while (await walk.run());
    await decide();
  };
  return { decide, round, counts };
}

/** As if so many seconds had passed. */
export async function pass({ database }: Rooms, seconds: number): Promise<void> {
  const earlier = (...columns: string[]) =>
    columns.map((name) => `${name} = ${name} - make_interval(secs => $1)`).join();
  await database.query(`update repository_blobs set ${earlier('linked_at', 'condemned_at')}`, [seconds]);
  await database.query(`update manifests set ${earlier('created_at', 'condemned_at')}`, [seconds]);
  await database.query(`update reviews set ${earlier('queued_at', 'not_before')}`, [seconds]);
  await database.query(`update review_requests set ${earlier('at')}`, [seconds]);
}

interface Listed {
  readonly digest: Digest;
  readonly payload: Uint8Array;
}

function pushOf(mediaType: string, content: object, tags: readonly string[], name: RepositoryName): ManifestPush {
  const payload = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...content }));
  return {
    repository: name,
    digest: digestOf('sha256', payload),
    payload,
    manifest: parseManifest(payload, mediaType, LIMITS),
    tags: tags.map(parseTag),
  };
}

/** A manifest whose config is this blob. */
export function imageOf(
  blob: Digest,
  size: number,
  { tags = [], subject, note = '', name = NAME }: Options = {},
): ManifestPush {
  const named = subject && {
    subject: { mediaType: IMAGE, digest: subject.digest, size: subject.payload.length },
  };
  const content = {
    artifactType: 'application/vnd.example',
    config: { mediaType: EMPTY, digest: blob, size },
    layers: [],
    ...named,
    annotations: { note },
  };
  return pushOf(IMAGE, content, tags, name);
}

interface Options {
  tags?: readonly string[];
  subject?: Listed;
  note?: string;
  name?: RepositoryName;
}

/** An index of these manifests. */
export function indexOf(listed: readonly Listed[], { tags = [], name = NAME }: Options = {}): ManifestPush {
  const manifests = listed.map(({ digest, payload }) => ({ mediaType: IMAGE, digest, size: payload.length }));
  return pushOf(INDEX, { manifests }, tags, name);
}

export async function put(rooms: Rooms, push: ManifestPush): Promise<ManifestPush> {
  await rooms.registry.manifests.put(push, ACTOR);
  return push;
}

/** Holds changes inside their transactions. */
export class HeldChanges {
  #held: { kind: Change['kind']; arrive: () => void; free: Promise<void> } | undefined;

  readonly observer: ChangeObserver = async ({ kind }) => {
    const here = this.#held?.kind === kind ? this.#held : undefined;
    if (!here) return;
    this.#held = undefined;
    here.arrive();
    await here.free;
  };

  /** Holds the next change of that kind, until it is let go, or undone. */
  hold(kind: Change['kind']) {
    let release = () => {};
    let fail: (error: Error) => void = () => {};
    const free = new Promise<void>((resolve, reject) => {
      release = resolve;
      fail = reject;
    });
    const reached = new Promise<void>((arrive) => {
      this.#held = { kind, arrive, free };
    });
    return { reached, release: () => release(), fail: (error: Error) => fail(error) };
  }
}
