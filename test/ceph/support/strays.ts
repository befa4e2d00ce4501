// The job that ends stray uploads, as a process has it, and what is to be left when all is over.
import { expect } from 'chai';
import { removalsJob } from '../../../src/gc/removals.js';
import type { Job } from '../../../src/gc/jobs.js';
import type { RewriteOutcome } from '../../../src/gc/rewriter.js';
import { type StraysOptions, straysJob } from '../../../src/gc/strays.js';
import { adoptStore } from '../../../src/registry/installation.js';
import type { S3Store } from '../../../src/storage/s3/store.js';
import type { SegmentKey } from '../../../src/storage/segment-store.js';
import { silent } from '../../support/postgres.js';
import { Pauses, type Rooms, Site } from '../../support/rooms.js';
import type { Ceph } from './ceph.js';
import { Scene } from './scene.js';

/** A "process" on the bucket; `steps` are the places in its store. */
export type Process = Omit<Rooms, 'store'> & { readonly store: S3Store; readonly steps: Pauses };

export class StraysScene {
  private constructor(
    readonly site: Site,
    readonly scene: Scene,
  ) {}

  static async make(ceph: Ceph): Promise<StraysScene> {
    const made = new StraysScene(...(await Promise.all([Site.make(), Scene.make(ceph)])));
    const { database, store } = made.open();
    await adoptStore(database, store);
    return made;
  }

  open(): Process {
    const steps = new Pauses();
    const { store } = this.scene.open({ pause: steps.point });
    return { ...this.site.open({ store: () => store }), store, steps };
  }

  async dispose(): Promise<void> {
    await this.site.dispose();
    await this.scene.dispose();
  }

  /** Names of unfinished uploads. */
  async begun(): Promise<string[]> {
    const bucket = this.scene.bucket();
    const found: string[] = [];
    for await (const { name } of bucket.uploads('')) found.push(name);
    bucket.close();
    return found;
  }

  /** Runs the removals until they are over, and sees that the bucket holds what the blobs are made of, and nothing else. */
  async expectNothingElse({ database, store }: Process): Promise<void> {
    for (let time = 0; time < 3; time++) await removals({ database, store });
    expect(await database.query('select from removals')).to.have.length(0);
    expect(await database.query('select from replacements')).to.have.length(0);
    expect(await this.begun()).to.deep.equal([]);
    const held: SegmentKey[] = [];
    for await (const key of store.list()) held.push(key);
    const named = await database.query<{ key: SegmentKey }>('select key from segments');
    expect(held.sort()).to.deep.equal(named.map(({ key }) => key).sort());
  }
}

/** The job of a process; `outcomes` are how what it wrote anew ended. */
export function sweeperOf(
  { database, store, pauses }: Process,
  options: Partial<StraysOptions> = {},
): Job & { readonly outcomes: RewriteOutcome[] } {
  const outcomes: RewriteOutcome[] = [];
  const job = straysJob({
    database,
    store,
    log: silent,
    pause: pauses.point,
    observer: { passed: () => undefined, ended: (outcome) => outcomes.push(outcome) },
    everyMs: 1_000,
    bytesPerSecond: Number.MAX_SAFE_INTEGER,
    readGraceSeconds: 60,
    ...options,
  });
  return { ...job, outcomes };
}

export async function removals({ database, store }: Pick<Process, 'database' | 'store'>): Promise<void> {
  await database.query('update removals set not_before = now()');
  await removalsJob({
    database,
    store,
    log: silent,
    pause: () => undefined,
    everyMs: 1_000,
    delaySeconds: 0,
    sharePercent: 100,
  }).run();
}

/** Keys of a blob's segments, in order. */
export async function keysOf({ database }: Pick<Process, 'database'>, digest: string): Promise<SegmentKey[]> {
  const rows = await database.query<{ key: SegmentKey }>(
    'select s.key from blobs b join segments s on s.body = b.body where b.digest = $1 order by s.position',
    [digest],
  );
  return rows.map(({ key }) => key);
}
