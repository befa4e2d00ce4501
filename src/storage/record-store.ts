import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { storageError } from './durable-file.js';

/** Where what the database knows is written down beside the bytes, in files that are written once. */
export interface RecordStore {
  /** Makes `lines` durable under a new name, which begins with `order` so that names sort as they were written. */
  putRecords(order: number, lines: string): Promise<void>;
  /** All that was put, in order. */
  listRecords(): AsyncIterable<string>;
}

const DIGITS = 16;

/** Records as files: `<root>/records/<order, 16 digits>-<random>.jsonl`. */
export class FilesystemRecords implements RecordStore {
  readonly #folder: string;

  constructor(root: string) {
    this.#folder = join(root, 'records');
  }

  async putRecords(order: number, lines: string): Promise<void> {
    const name = `${String(order).padStart(DIGITS, '0')}-${randomBytes(4).toString('hex')}`;
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o750 });
      const temporary = join(this.#folder, `${name}.part`);
      const file = await open(temporary, 'wx', 0o640);
      try {
        await file.writeFile(lines);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, join(this.#folder, `${name}.jsonl`));
      const folder = await open(this.#folder, 'r');
      await folder.sync().finally(() => folder.close());
    } catch (error) {
      throw storageError(error);
    }
  }

  async *listRecords(): AsyncIterable<string> {
    const names = await readdir(this.#folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw storageError(error);
    });
    for (const name of names.filter((candidate) => candidate.endsWith('.jsonl')).sort()) {
      yield await readFile(join(this.#folder, name), 'utf8');
    }
  }
}
