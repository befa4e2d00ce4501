import { statfs } from 'node:fs/promises';
import type { Queries } from '../database/connect.js';
import { CHECKS, type CheckState, type HealthReport } from '../http/ops/health.js';
import type { Log } from '../log.js';
import { markerOf } from '../registry/installation.js';
import type { SegmentStore } from '../storage/segment-store.js';
import { shared, within } from './shared-answer.js';

/** How long a result is shared, in milliseconds. */
const KEEP_MS = 1_000;

type Name = (typeof CHECKS)[number];

export interface HealthOptions {
  readonly version: string;
  /** How long a check may take, in milliseconds. */
  readonly limitMs: number;
  readonly draining: () => boolean;
  readonly log: Log;
}

/** Whether what the node needs is there, found out side by side when somebody asks. */
export class Health {
  readonly #options: HealthOptions;
  readonly #checks = new Map<Name, () => Promise<void>>();
  readonly #known = new Map<Name, CheckState>();
  #running = 0;
  readonly #look = shared(KEEP_MS, () => this.#lookAtAll());

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  /** Sets how `name` is looked at; until then it counts as out. `check` throws if it is. */
  watch(name: Name, check: () => Promise<void>): void {
    // A check that hangs is not begun again: the next look waits for the same one.
    const once = shared(0, async () => {
      this.#running += 1;
      await check().finally(() => {
        this.#running -= 1;
      });
    });
    this.#checks.set(name, once);
  }

  /** Whether a check is under way: once nobody asks any more, one that hangs. */
  get waits(): boolean {
    return this.#running > 0;
  }

  async report(): Promise<HealthReport> {
    const checks = await this.#look();
    const well = CHECKS.every((name) => checks[name].status === 'ok');
    const status = this.#options.draining() ? 'draining' : well ? 'ok' : 'unavailable';
    return { status, version: this.#options.version, checks };
  }

  async #lookAtAll(): Promise<HealthReport['checks']> {
    const found = await Promise.all(CHECKS.map(async (name) => [name, { status: await this.#lookAt(name) }] as const));
    return Object.fromEntries(found) as HealthReport['checks'];
  }

  async #lookAt(name: Name): Promise<CheckState> {
    const { limitMs, log } = this.#options;
    const check = this.#checks.get(name);
    if (!check) return 'unavailable';
    let state: CheckState = 'ok';
    let err: unknown;
    try {
      await within(limitMs, check());
    } catch (error) {
      state = 'unavailable';
      err = error;
    }
    // Those who ask without a key are not told why; the log is, once.
    const known = this.#known.get(name);
    if (state === 'unavailable' && known !== state) log.error({ err, check: name }, 'a check of health failed');
    if (state === 'ok' && known === 'unavailable') log.info({ check: name }, 'a check of health is well again');
    this.#known.set(name, state);
    return state;
  }
}

/** Looks whether PostgreSQL answers. */
export function databaseCheck(queries: Queries): () => Promise<void> {
  return async () => {
    await queries.query('select 1');
  };
}

/** Looks whether the store can be read and is the one of this database, of which the marker is known from the start. */
export async function storageCheck(queries: Queries, store: SegmentStore): Promise<() => Promise<void>> {
  const wanted = await markerOf(queries);
  return async () => {
    const marker = await store.readMarker();
    if (marker === undefined) throw new Error('the storage has no marker: is it mounted?');
    if (marker !== wanted) throw new Error(`the storage belongs to another database (its marker is ${marker})`);
  };
}

/** Room of a file system, in bytes. */
export interface Room {
  readonly size: number;
  readonly free: number;
}

/** Looks whether at least `freeBytes` are free in the file system of `folder`, and files can be made. `found` is told. */
export function diskCheck(folder: string, freeBytes: number, found: (room: Room) => void): () => Promise<void> {
  return async () => {
    const { bsize, blocks, bavail, files, ffree } = await statfs(folder);
    const free = bavail * bsize;
    found({ size: blocks * bsize, free });
    if (free < freeBytes) throw new Error(`${free} bytes are free where the blobs are, less than ${freeBytes}`);
    // File systems without a limit of files say 0 of 0.
    if (files > 0 && ffree === 0) throw new Error('no further file can be made where the blobs are');
  };
}
