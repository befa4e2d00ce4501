// What the tests of races share: two "processes" on one database and one folder, and looks into both.
import { type Failure, RegistryError } from '../../src/errors.js';
import { type Digest, digestOf } from '../../src/oci/digest.js';
import { type CompactionOptions, compactionJob } from '../../src/gc/compaction.js';
import type { Job } from '../../src/gc/jobs.js';
import type { RewriteOutcome } from '../../src/gc/rewriter.js';
import type { RepositoryName } from '../../src/oci/name.js';
import type { SegmentKey, SegmentStore } from '../../src/storage/segment-store.js';
import { gather } from '../support/gather.js';
import { silent } from '../support/postgres.js';
import { ACTOR, bodyOf, repository, type Rooms } from '../support/rooms.js';

export const NAME = repository('team/model');
export const OTHER = repository('other/model');

/** Bytes that differ at every place and for every seed. */
export function bytesOf(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed * 2_654_435_761;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

export function sha256(...bytes: Uint8Array[]): Digest {
  return digestOf('sha256', Buffer.concat(bytes));
}

export function targetOf(id: string, name: RepositoryName = NAME) {
  return { id, repository: name, actor: ACTOR };
}

/** Opens a session. */
export async function begin(
  rooms: Pick<Rooms, 'registry'>,
  name: RepositoryName = NAME,
): Promise<ReturnType<typeof targetOf>> {
  return targetOf(await rooms.registry.uploads.create(name, 'sha256', ACTOR), name);
}

/** Pushes a blob. */
export async function push(
  rooms: Pick<Rooms, 'registry'>,
  bytes: Uint8Array,
  name: RepositoryName = NAME,
): Promise<Digest> {
  const digest = sha256(bytes);
  await rooms.registry.uploads.finish(await begin(rooms, name), digest, bodyOf([bytes]));
  return digest;
}

/** Pushes a blob in chunks, each a segment of its own if none of them is larger than those before. */
export async function pushChunks(
  rooms: Pick<Rooms, 'registry'>,
  chunks: readonly Buffer[],
  name: RepositoryName = NAME,
): Promise<Digest> {
  const target = await begin(rooms, name);
  let from = 0;
  for (const chunk of chunks) from = await rooms.registry.uploads.append(target, bodyOf([chunk], { from }));
  const digest = sha256(...chunks);
  await rooms.registry.uploads.finish(target, digest, undefined);
  return digest;
}

/** The compactor of a process; `outcomes` are how its compactions ended. */
export function compactorOf(
  rooms: Pick<Rooms, 'database' | 'pauses'> & { store: SegmentStore },
  options: Partial<CompactionOptions> = {},
): Job & { readonly outcomes: RewriteOutcome[] } {
  const outcomes: RewriteOutcome[] = [];
  const job = compactionJob({
    database: rooms.database,
    store: rooms.store,
    log: silent,
    pause: rooms.pauses.point,
    observer: { passed: () => undefined, ended: (outcome) => outcomes.push(outcome) },
    everyMs: 1_000,
    bytesPerSecond: Number.MAX_SAFE_INTEGER,
    minBytes: 0,
    readGraceSeconds: 60,
    hasRoom: () => Promise.resolve(true),
    ...options,
  });
  return { ...job, outcomes };
}

/** 'done', or the failure with which it ends. */
export async function outcome(work: Promise<unknown>): Promise<Failure | 'done'> {
  try {
    await work;
    return 'done';
  } catch (error) {
    if (error instanceof RegistryError) return error.failure;
    throw error;
  }
}

/** Whether a promise is still open after `ms`. */
export async function stillWaits(work: Promise<unknown>, ms = 150): Promise<boolean> {
  const waiting = Symbol();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve(waiting), ms);
  });
  const first = await Promise.race([work.catch(() => undefined), late]);
  clearTimeout(timer);
  return first === waiting;
}

/** A point in a body at which its client waits. */
export function stall() {
  let go = () => {};
  let fail: (error: Error) => void = () => {};
  let arrive = () => {};
  const free = new Promise<void>((resolve, reject) => {
    go = resolve;
    fail = reject;
  });
  free.catch(() => undefined);
  const reached = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  const wait = async () => {
    arrive();
    await free;
  };
  return {
    wait,
    reached,
    go: () => go(),
    breakOff: () => fail(new RegistryError('ClientGone', 'the client broke off')),
  };
}

export async function read(
  rooms: Pick<Rooms, 'registry'>,
  digest: Digest,
  name: RepositoryName = NAME,
): Promise<Buffer> {
  const blob = await rooms.registry.blobs.getOpenable(name, digest);
  return await gather(await blob.open({ start: 0, end: blob.size }));
}

export interface UploadRow {
  readonly body: number | null;
  readonly epoch: number;
  readonly offset: number;
  readonly told: number;
  readonly prefixSize: number;
  readonly prefixDigest: Digest | null;
}

export async function uploadRow(rooms: Rooms, id: string): Promise<UploadRow | undefined> {
  const [row] = await rooms.database.query<UploadRow>(
    `select body, epoch, "offset", told_offset as told, prefix_size as "prefixSize", prefix_digest as "prefixDigest"
       from uploads where id = $1`,
    [id],
  );
  return row;
}

export interface SegmentRow {
  readonly key: SegmentKey;
  readonly position: number | null;
  readonly length: number;
  readonly objectSize: number | null;
}

/** Every segment of an upload, by its key, in the order of the body; spares last. */
export async function segmentRows(rooms: Rooms, id: string): Promise<SegmentRow[]> {
  return await rooms.database.query<SegmentRow>(
    `select key, position, length, object_size as "objectSize" from segments where key like '%/' || $1::text || '.%'
      order by position nulls last, key`,
    [id],
  );
}

/** The keys of an upload that wait for removal, with the seconds until then. */
export async function removalRows(rooms: Rooms, id = ''): Promise<{ key: string; seconds: number }[]> {
  return await rooms.database.query<{ key: string; seconds: number }>(
    `select key, extract(epoch from not_before - now())::float as seconds from removals
      where key like '%/' || $1::text || '%' order by key`,
    [id],
  );
}
