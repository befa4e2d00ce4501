import { randomUUID } from 'node:crypto';
import { type FileHandle, link, mkdir, open, opendir, readdir, readFile, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type AppendFile, type CreateFile, createNew, DurableFile, storageError } from './durable-file.js';
import { damaged, FileRange } from './file-range.js';
import type { MemoryBudget } from './memory-budget.js';
import { ReadMemory } from './read-memory.js';
import {
  findSegmentKey,
  type LentBytes,
  type OpenSegment,
  type PausePoint,
  type SegmentKey,
  type SegmentRange,
  type SegmentStore,
} from './segment-store.js';
import { Turns } from './turns.js';

/** As many operations on files as may hang at a time; config.ts gives a process four threads more. */
const OPERATIONS = 12;

const MARKER = 'weighhouse.marker';
const BEACONS = 'weighhouse.beacons';
/** What begins like this in the folder is ours, also before it is marked. */
const OURS = 'weighhouse.';

export interface FilesystemOptions {
  /** The folder; made if it is not there. */
  root: string;
  /** What all uploads of the process share. */
  budget: MemoryBudget;
  /** Bytes that all downloads of the process may read ahead. */
  downloadMemory: number;
  /** How a segment's file is created; tests put failing ones in. */
  createFile?: CreateFile;
  /** Tests hold the store between a look at a file and the next one. */
  pause?: PausePoint;
}

/**
 * Segments as files, for a local disk or a folder that several nodes share (decision 0019):
 *
 *     <root>/weighhouse.marker           the database's marker
 *     <root>/weighhouse.beacons/<name>   by which nodes know that they share the folder
 *     <root>/<2 hex>/<key>               a segment, written once, in place
 */
export class FilesystemStore implements SegmentStore {
  /** It never claims; and how long a write may hang in the kernel, the operator knows: REGISTRY_REMOVAL_DELAY. */
  readonly settleSeconds = 0;
  /** The folder. */
  readonly root: string;
  readonly #budget: MemoryBudget;
  readonly #reading: ReadMemory;
  readonly #createFile: CreateFile;
  readonly #pause: PausePoint;
  readonly #turns = new Turns(OPERATIONS);

  constructor(options: FilesystemOptions) {
    this.root = options.root;
    this.#budget = options.budget;
    this.#reading = new ReadMemory(options.downloadMemory);
    this.#createFile = options.createFile ?? createNew;
    this.#pause = options.pause ?? (() => undefined);
  }

  /** Bytes that all downloads together hold. */
  get readAheadBytes(): number {
    return this.#reading.held;
  }

  async begin(key: SegmentKey): Promise<OpenSegment> {
    const path = this.#path(key);
    const turns = this.#turns;
    const create: CreateFile = async (name) => inTurns(await turns.take(() => this.#createFile(name)), turns);
    return await DurableFile.create(path, this.#budget, () => turns.take(() => syncFolder(dirname(path))), create);
  }

  async recover(key: SegmentKey, length: number): Promise<{ objectSize: number | null } | undefined> {
    const file = await this.#openFresh(key, length);
    if (!file) return undefined;
    await file.close();
    // A writer that lost its session may still be writing: the size is not final, the segment stays ragged.
    return { objectSize: null };
  }

  async open(key: SegmentKey, range: SegmentRange): Promise<LentBytes> {
    const reopen = () => this.#openFresh(key, range.end);
    const file = await reopen();
    if (!file) throw damaged(key, range.end, (await this.stat(key))?.size ?? 0);
    return new FileRange(file, { key, range, memory: this.#reading, turns: this.#turns, reopen });
  }

  async stat(key: SegmentKey): Promise<{ size: number } | undefined> {
    try {
      return { size: (await this.#turns.take(() => stat(this.#path(key)))).size };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw storageError(error);
    }
  }

  async remove(key: SegmentKey): Promise<boolean> {
    try {
      await this.#turns.take(() => unlink(this.#path(key)));
      return false;
    } catch (error) {
      if (isMissing(error)) return true;
      throw storageError(error);
    }
  }

  async *list(): AsyncIterable<SegmentKey> {
    for (const folder of await readdir(this.root)) {
      if (!/^[0-9a-f]{2}$/.test(folder)) continue;
      for await (const entry of await opendir(join(this.root, folder))) {
        const key = findSegmentKey(`${folder}/${entry.name}`);
        if (key) yield key;
      }
    }
  }

  async readMarker(): Promise<string | undefined> {
    try {
      return (await readFile(join(this.root, MARKER), 'utf8')).trim();
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw storageError(error);
    }
  }

  async mark(marker: string): Promise<void> {
    await mkdir(this.root, { recursive: true });
    const strangers = (await readdir(this.root)).filter((name) => name !== 'lost+found' && !name.startsWith(OURS));
    if (strangers.length > 0)
      throw new Error(`the folder ${this.root} holds ${strangers[0]} but no marker of Weighhouse`);
    const temporary = join(this.root, `${MARKER}.${randomUUID()}`);
    const file = await open(temporary, 'wx', 0o640);
    try {
      await file.writeFile(`${marker}\n`);
      await file.sync();
      // Unlike a rename, a link takes nobody's place.
      await link(temporary, join(this.root, MARKER));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      throw new Error(`the folder ${this.root} has a marker already`, { cause: error });
    } finally {
      await file.close();
      await unlink(temporary);
    }
    await syncFolder(this.root);
    await syncFolder(dirname(this.root));
  }

  async putBeacon(name: string): Promise<void> {
    const folder = join(this.root, BEACONS);
    try {
      await mkdir(folder, { recursive: true, mode: 0o750 });
      const file = await open(join(folder, name), 'a', 0o640);
      await file.sync().finally(() => file.close());
      await syncFolder(folder);
      await syncFolder(this.root);
    } catch (error) {
      throw storageError(error);
    }
  }

  async hasBeacon(name: string): Promise<boolean> {
    const file = await this.#openFresh(`${BEACONS}/${name}`, 0);
    await file?.close();
    return file !== undefined;
  }

  /** Makes the folders that keys are spread over, so that no upload has to. Before the first `begin`; idempotent. */
  async prepare(): Promise<void> {
    const there = new Set(await readdir(this.root));
    const names = Array.from({ length: 256 }, (_, index) => index.toString(16).padStart(2, '0'));
    const missing = names.filter((name) => !there.has(name));
    await Promise.all(missing.map((name) => mkdir(join(this.root, name), { recursive: true, mode: 0o750 })));
    // Also when none is missing: whoever made them may have died before this.
    await syncFolder(this.root);
    await syncFolder(dirname(this.root));
  }

  #path(key: SegmentKey): string {
    return join(this.root, key);
  }

  /**
   * Opens the file if it is there and has at least `size` bytes. A file system that other nodes write to may remember how
   * it was before: opening asks for the size again, and for the folder's names if the folder is opened first.
   */
  async #openFresh(name: string, size: number): Promise<FileHandle | undefined> {
    const path = join(this.root, name);
    const file = await this.#turns.take(() => openAtLeast(path, size));
    if (file) return file;
    await this.#pause('store:short');
    return await this.#turns.take(async () => {
      const folder = await open(dirname(path), 'r').catch(() => undefined);
      await folder?.close();
      return await openAtLeast(path, size);
    });
  }
}

/** As it looks at first. */
async function openAtLeast(path: string, size: number): Promise<FileHandle | undefined> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    if ((await file.stat()).size >= size) return file;
    await file.close();
    return undefined;
  } catch (error) {
    await file?.close().catch(() => undefined);
    if (isMissing(error)) return undefined;
    throw storageError(error);
  }
}

/** The file, each operation of which waits for its turn. */
function inTurns(file: AppendFile, turns: Turns): AppendFile {
  const limited = (name: keyof AppendFile) => {
    const operation = file[name].bind(file) as (...args: unknown[]) => Promise<unknown>;
    return (...args: unknown[]) => turns.take(() => operation(...args));
  };
  return {
    writev: limited('writev'),
    write: limited('write'),
    datasync: limited('datasync'),
    close: limited('close'),
  } as AppendFile;
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}
