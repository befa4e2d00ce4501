import type { Queries } from '../database/connect.js';
import { checkSchema } from '../database/migrate.js';
import { newestMigration } from '../database/migrations.js';
import { CHECKS, type CheckState, type HealthReport, type Shortcoming } from '../http/ops/health.js';
import type { Log } from '../log.js';
import { type Installation, installationOf, requireStoreOf } from '../registry/installation.js';
import { type Room, roomOf } from '../storage/folder-check.js';
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
  #isAnyQuarantined: () => Promise<boolean> = () => Promise.resolve(false);
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

  /** Sets how it is found out whether blobs are quarantined, which does not take the node out. */
  watchBlobs(isAnyQuarantined: () => Promise<boolean>): void {
    this.#isAnyQuarantined = shared(KEEP_MS, isAnyQuarantined);
  }

  /** Whether a check is under way: once nobody asks any more, one that hangs. */
  get waits(): boolean {
    return this.#running > 0;
  }

  async report(): Promise<HealthReport> {
    const [checks, quarantined] = await Promise.all([this.#look(), this.#quarantined()]);
    const degraded: readonly Shortcoming[] = quarantined ? ['blobs'] : [];
    const well = CHECKS.every((name) => checks[name].status === 'ok');
    const status = this.#options.draining() ? 'draining' : well ? 'ok' : 'unavailable';
    return { status, version: this.#options.version, checks, degraded };
  }

  /** What can't be told now is not said: then the database is out. */
  async #quarantined(): Promise<boolean> {
    return await within(this.#options.limitMs, this.#isAnyQuarantined()).catch(() => false);
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

/**
 * Looks whether PostgreSQL answers, and whether its schema is still one that this version can work with. `found` is told
 * what it says of the store.
 */
export function databaseCheck(queries: Queries, found: (installation: Installation) => void): () => Promise<void> {
  // Now: a newer version may be put in the place of this one while it runs.
  const knows = newestMigration();
  return async () => {
    found(await installationOf(queries));
    await checkSchema(queries, await knows);
  };
}

/**
 * Looks whether the store can be read and is the one that the database's nodes share, by what the database was last
 * `known` to say: that it is out now is not the store's fault. Then `probe` tries it.
 */
export function storageCheck(
  store: SegmentStore,
  known: () => Installation,
  probe: () => Promise<void>,
): () => Promise<void> {
  return async () => {
    await requireStoreOf(known(), store);
    await probe();
  };
}

/** Looks whether at least `freeBytes` are free in the file system of `folder`, and files can be made. `found` is told. */
export function diskCheck(folder: string, freeBytes: number, found: (room: Room) => void): () => Promise<void> {
  return async () => {
    const room = await roomOf(folder);
    found(room);
    if (room.free < freeBytes) throw new Error(`${room.free} bytes are free at ${folder}, less than ${freeBytes}`);
    if (!room.takesFiles) throw new Error(`no further file can be made in ${folder}`);
  };
}
