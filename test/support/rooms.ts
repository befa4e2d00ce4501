// The rooms wired in this process, with pause points that a test holds: two of them on one database are two processes.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Actor } from '../../src/actor.js';
import { connect, type Database } from '../../src/database/connect.js';
import type { Log } from '../../src/log.js';
import { parseRepositoryName, type RepositoryName } from '../../src/oci/name.js';
import type { ChangeObserver } from '../../src/registry/changes.js';
import { checkMarkers } from '../../src/registry/installation.js';
import { createRegistry, type Registry } from '../../src/registry/registry.js';
import type { UploadBody } from '../../src/registry/uploads.js';
import type { CreateFile } from '../../src/storage/durable-file.js';
import { FilesystemStore } from '../../src/storage/filesystem.js';
import { MemoryBudget } from '../../src/storage/memory-budget.js';
import type { SegmentStore } from '../../src/storage/segment-store.js';
import { createDatabase, silent, type TestDatabase } from './postgres.js';

export const ACTOR: Actor = {
  key: 'tester',
  name: 'a tester',
  address: '127.0.0.1',
  userAgent: 'tests',
  requestId: 'none',
};

/** Named places at which code is held until the test lets it go. */
export class Pauses {
  readonly #held = new Map<string, { reached: () => void; free: Promise<void> }[]>();
  /** Every place that was passed, in order. */
  readonly passed: string[] = [];

  /** To be given to a room as its `pause`. */
  readonly point = async (name: string): Promise<void> => {
    this.passed.push(name);
    const hold = this.#held.get(name)?.shift();
    if (!hold) return;
    hold.reached();
    await hold.free;
  };

  /** Holds the next one who comes to `name`. `reached` resolves when it is there; `release` lets it go. */
  hold(name: string): { reached: Promise<void>; release: () => void } {
    let release = () => {};
    let arrive = () => {};
    const free = new Promise<void>((resolve) => {
      release = resolve;
    });
    const reached = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    this.#held.set(name, [...(this.#held.get(name) ?? []), { reached: arrive, free }]);
    return { reached, release };
  }
}

export interface Rooms {
  readonly registry: Registry;
  readonly database: Database;
  readonly store: FilesystemStore;
  readonly pauses: Pauses;
}

/** A database and a folder, in which any number of "processes" can be opened. */
export class Site {
  readonly #opened: Database[] = [];

  private constructor(
    readonly folder: string,
    readonly testDatabase: TestDatabase,
  ) {}

  static async make(): Promise<Site> {
    const site = new Site(await mkdtemp(join(tmpdir(), 'weighhouse-rooms-')), await createDatabase());
    await mkdir(site.root, { recursive: true });
    const { database, store } = site.open();
    await checkMarkers(database, store);
    await store.prepare();
    return site;
  }

  get root(): string {
    return join(this.folder, 'blobs');
  }

  /** Opens the rooms as a process of its own would. */
  open(
    options: {
      pool?: number;
      log?: Log;
      observers?: ChangeObserver[];
      store?: (store: FilesystemStore) => SegmentStore;
      uploadLifetimeSeconds?: number;
      sessionsPerKey?: number;
      /** Another way to the same database. */
      url?: string;
      createFile?: CreateFile;
      uploadMemory?: number;
      recordBytes?: number;
      inlineMaxBytes?: number;
      patienceMs?: number;
      sliceBytes?: number;
    } = {},
  ): Rooms {
    const database = connect({ url: options.url ?? this.testDatabase.url, pool: options.pool ?? 5, timeout: 10 });
    this.#opened.push(database);
    const store = new FilesystemStore({
      root: this.root,
      budget: new MemoryBudget(options.uploadMemory ?? 16 * 1024 * 1024),
      downloadMemory: 16 * 1024 * 1024,
      ...(options.createFile && { createFile: options.createFile }),
    });
    const pauses = new Pauses();
    const registry = createRegistry({
      database,
      store: options.store?.(store) ?? store,
      log: options.log ?? silent,
      observers: options.observers ?? [],
      pause: pauses.point,
      blobMaxBytes: 1024 * 1024 * 1024,
      uploadLifetimeSeconds: options.uploadLifetimeSeconds ?? 3600,
      sessionsPerKey: options.sessionsPerKey ?? 1000,
      readGraceSeconds: 60,
      storageTimeoutSeconds: 5,
      recordBytes: options.recordBytes,
      inlineMaxBytes: options.inlineMaxBytes,
      followMs: 20,
      patienceMs: options.patienceMs,
      sliceBytes: options.sliceBytes,
    });
    return { registry, database, store, pauses };
  }

  async dispose(): Promise<void> {
    await Promise.all(this.#opened.map((database) => database.close()));
    await this.testDatabase.drop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

export function repository(name: string): RepositoryName {
  return parseRepositoryName(name);
}

/** A request's body made of these pieces; a function among them is awaited in its place, and may throw. */
export function bodyOf(
  pieces: readonly (Uint8Array | (() => Promise<void>))[],
  options: { from?: number; length?: number } = {},
): UploadBody {
  return {
    from: options.from,
    length: options.length,
    async *read(signal) {
      for (const piece of pieces) {
        signal.throwIfAborted();
        if (typeof piece === 'function') await piece();
        else yield piece;
      }
      signal.throwIfAborted();
    },
  };
}
