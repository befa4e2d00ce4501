// What the tests of the scrub share: one as a process runs it, and ways to harm what is stored.
import { open, readFile, rm, truncate, appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { backgroundActor } from '../../src/actor.js';
import { Healer } from '../../src/gc/healer.js';
import { type BlobFault, Inspector } from '../../src/gc/inspector.js';
import { Pace } from '../../src/gc/pace.js';
import { scrubJob } from '../../src/gc/scrub.js';
import { Scrubber } from '../../src/gc/scrubber.js';
import { auditChanges } from '../../src/metadata/audit.js';
import type { Digest } from '../../src/oci/digest.js';
import { recordBy } from '../../src/registry/changes.js';
import type { SegmentKey, SegmentStore } from '../../src/storage/segment-store.js';
import type { Log } from '../../src/log.js';
import { silent } from '../support/postgres.js';
import type { Rooms, Site } from '../support/rooms.js';

export interface ScrubSceneOptions {
  readonly deep?: boolean;
  readonly second?: SegmentStore;
  readonly bytesPerSecond?: number;
  readonly objectsPerSecond?: number;
  readonly log?: Log;
}

/** The scrub of a process, with what it told. */
export function scrubOf(
  rooms: Pick<Rooms, 'database' | 'pauses'> & { store: SegmentStore },
  options: ScrubSceneOptions = {},
) {
  const { deep = true, second, bytesPerSecond = 1e12, objectsPerSecond = 1e9, log = silent } = options;
  const { database, store, pauses } = rooms;
  const told = {
    faults: [] as BlobFault[],
    healed: [] as string[],
    unread: [] as Digest[],
    looked: 0,
    read: 0,
  };
  const bytes = new Pace(bytesPerSecond);
  const objects = new Pace(objectsPerSecond);
  const shared = {
    ...{ database, store, log, pause: pauses.point },
    observers: [recordBy(auditChanges)],
    actor: backgroundActor('scrub'),
  };
  const healer = new Healer({
    ...shared,
    ...{ second, bytesPerSecond, readGraceSeconds: 60 },
    healed: (source) => told.healed.push(source),
  });
  const passed = (count: number) => {
    told.read += count;
  };
  const inspector = new Inspector({ ...shared, ...{ deep, healer, bytes, objects, passed } });
  const observer = {
    read: () => undefined,
    looked: () => {
      told.looked += 1;
    },
    fault: (fault: BlobFault) => {
      told.faults.push(fault);
    },
    unread: (digest: Digest) => {
      told.unread.push(digest);
    },
  };
  const scrubber = new Scrubber({ database, store, log, inspector, observer });
  const job = scrubJob({ database, log, scrubber, everyMs: 1_000, everyDays: 30 });
  return { told, job, scrubber, inspector, bytes, objects, kinds: () => told.faults.map(({ damage }) => damage?.kind) };
}

/** Makes a pass due. */
export async function wait30Days({ database }: Pick<Rooms, 'database'>): Promise<void> {
  await database.query(`update installation set created_at = created_at - interval '31 days'`);
  await database.query(`update scrubs set started_at = started_at - interval '31 days' where finished_at is not null`);
}

/** A whole pass, as the background does it. */
export async function pass(rooms: Rooms, options: ScrubSceneOptions = {}) {
  const scrub = scrubOf(rooms, options);
  await wait30Days(rooms);
  while (await scrub.job.run());
  return scrub;
}

export async function keysOf({ database }: Pick<Rooms, 'database'>, digest: Digest): Promise<SegmentKey[]> {
  const rows = await database.query<{ key: SegmentKey }>(
    'select s.key from segments s join blobs b on b.body = s.body where b.digest = $1 order by s.position',
    [digest],
  );
  return rows.map(({ key }) => key);
}

/** The file of a blob that is one. */
export async function fileOf(site: Site, rooms: Rooms, digest: Digest): Promise<string> {
  const [key] = await keysOf(rooms, digest);
  return join(site.root, String(key));
}

/** Ways to harm a file. */
export const harm = {
  remove: (path: string) => rm(path),
  truncate: async (path: string) => {
    const { length } = await readFile(path);
    await truncate(path, length - 1);
  },
  /** Changes one bit in the middle. */
  flip: async (path: string) => {
    const bytes = await readFile(path);
    const at = Math.floor(bytes.length / 2);
    const file = await open(path, 'r+');
    await file.write(Uint8Array.of((bytes[at] ?? 0) ^ 1), 0, 1, at).finally(() => file.close());
  },
  lengthen: (path: string) => appendFile(path, 'more'),
  overwrite: (path: string, bytes: Uint8Array) => writeFile(path, bytes),
};

export async function isQuarantined({ database }: Pick<Rooms, 'database'>, digest: Digest): Promise<boolean> {
  const rows = await database.query('select from blobs where digest = $1 and quarantined_at is not null', [digest]);
  return rows.length > 0;
}

/** What the record says of quarantines and healing. */
export async function record({ database }: Pick<Rooms, 'database'>) {
  return await database.query<{ actor: string; action: string; resource: string; details: Record<string, unknown> }>(
    `select actor, action, resource_id as resource, details from audit_logs
      where action in ('blob.quarantine', 'blob.heal') order by id`,
  );
}
