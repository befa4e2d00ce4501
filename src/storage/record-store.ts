import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { storageError } from './durable-file.js';

/** Where in the whole of the records a file stands (decision 0029). */
export interface RecordPlace {
  /** Raised when a database finds that its store knows more than it does: it was restored or rebuilt. */
  readonly generation: number;
  /** Of the generation's files in order of writing; 0: what a restored database still had to write for its former one. */
  readonly sequence: number;
}

/** A file of records. */
export interface RecordFile extends RecordPlace {
  readonly name: string;
  /** Whether a version before decision 0029 wrote it: then `sequence` is its first record's id. */
  readonly legacy: boolean;
}

/** Where what the database knows is written down beside the bytes, in files that are written once. */
export interface RecordStore {
  /** Makes `lines` durable under a name that was never used, also where another file has the same place. */
  putRecords(place: RecordPlace, lines: string): Promise<void>;
  /** Files in the order of their places, those of older versions first; only what is beyond `after`, where it is given. */
  listRecords(after?: RecordPlace): AsyncIterable<RecordFile>;
  /** The lines of a file. @throws 'Unavailable' */
  readRecords(file: RecordFile): Promise<string>;
}

const GENERATION_DIGITS = 8;
const DIGITS = 16;
const NAME = /^(?:g([0-9]{8})-)?([0-9]{16})-[0-9a-f]{8}\.jsonl$/;

/** A name of its own for a file at `place`. */
export function newRecordName(place: RecordPlace): string {
  return `${startOf(place)}-${randomBytes(4).toString('hex')}.jsonl`;
}

/** What all names beyond `place` come after, in byte order. */
export function lastNameAt(place: RecordPlace): string {
  return `${startOf(place)}-~`;
}

function startOf({ generation, sequence }: RecordPlace): string {
  return `g${String(generation).padStart(GENERATION_DIGITS, '0')}-${String(sequence).padStart(DIGITS, '0')}`;
}

/** The file of this name; undefined if it is none of records. */
export function findRecordFile(name: string): RecordFile | undefined {
  const match = NAME.exec(name);
  if (!match) return undefined;
  const [, generation, sequence] = match;
  return { name, generation: Number(generation ?? 0), sequence: Number(sequence), legacy: generation === undefined };
}

/** Records as files: `<root>/records/g<generation, 8 digits>-<sequence, 16 digits>-<random>.jsonl`. */
export class FilesystemRecords implements RecordStore {
  readonly #folder: string;

  constructor(root: string) {
    this.#folder = join(root, 'records');
  }

  async putRecords(place: RecordPlace, lines: string): Promise<void> {
    const name = newRecordName(place);
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
      await rename(temporary, join(this.#folder, name));
      const folder = await open(this.#folder, 'r');
      await folder.sync().finally(() => folder.close());
    } catch (error) {
      throw storageError(error);
    }
  }

  async *listRecords(after?: RecordPlace): AsyncGenerator<RecordFile> {
    const names = await readdir(this.#folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw storageError(error);
    });
    const last = after && lastNameAt(after);
    for (const name of names.sort()) {
      const file = last === undefined || name > last ? findRecordFile(name) : undefined;
      if (file) yield file;
    }
  }

  async readRecords({ name }: RecordFile): Promise<string> {
    try {
      return await readFile(join(this.#folder, name), 'utf8');
    } catch (error) {
      throw storageError(error);
    }
  }
}
