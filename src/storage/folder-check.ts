import { randomUUID } from 'node:crypto';
import { link, mkdir, open, readFile, rename, rm, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';

/** Longer than any name that the store makes. */
const NAME_BYTES = 100;
const BYTES = 4096;

/** Room of a file system, in bytes. */
export interface Room {
  readonly size: number;
  readonly free: number;
  /** Whether a further file can be made. */
  readonly takesFiles: boolean;
}

export async function roomOf(folder: string): Promise<Room> {
  const { bsize, blocks, bavail, files, ffree } = await statfs(folder);
  // File systems without a limit of files say 0 of 0.
  return { size: blocks * bsize, free: bavail * bsize, takesFiles: files === 0 || ffree > 0 };
}

/**
 * Writes a byte, in a file of the name, and waits until it is durable: what hangs for others hangs here too, whatever of
 * the folder this node remembers. No room is not what it looks for.
 */
export async function probeFolder(root: string, name: string): Promise<void> {
  try {
    const file = await open(join(root, `weighhouse.probe.${name}`), 'w', 0o640);
    try {
      await file.write('.');
      await file.datasync();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!isFull(error)) throw error;
  }
}

/**
 * Tries in the folder, which is made if it is not there, all that the store relies on: files that are made once, written
 * at any place, synced, linked, renamed, read while they are removed; folders that are synced; long names. Whether what is
 * synced outlives a power cut only the power cut tells.
 * @returns whether there was room to try it.
 * @throws Error in words for the operator: the folder, and what does not work there.
 */
export async function checkFolder(root: string): Promise<boolean> {
  const place = join(root, `weighhouse.check.${randomUUID()}`);
  let what = 'a folder can not be made';
  const tried: Attempt = async (refusal, work) => {
    what = refusal;
    return await work();
  };
  try {
    await mkdir(place, { recursive: true, mode: 0o750 });
    await tryFiles(place, tried);
    return true;
  } catch (error) {
    // Not a fault of the file system: what is there can be read, and room can be made, by a registry that runs.
    if (isFull(error)) return false;
    throw new Error(`the folder ${root} can't hold blobs: ${what}`, { cause: error });
  } finally {
    await rm(place, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Does `work`; if that fails, it is the `refusal`. */
type Attempt = <T>(refusal: string, work: () => Promise<T>) => Promise<T>;

async function tryFiles(place: string, tried: Attempt): Promise<void> {
  const [first, second, third] = ['a', 'b', 'c'].map((letter) => join(place, letter.repeat(NAME_BYTES))) as [
    string,
    string,
    string,
  ];
  const halves = [Buffer.alloc(BYTES, 'first'), Buffer.alloc(BYTES, 'second')] as const;
  const file = await tried(`a file with a name of ${NAME_BYTES} bytes can not be made`, () => open(first, 'wx+'));
  try {
    await tried('a file that is there can be made once more', () => exists(open(first, 'wx')));
    await tried('a file can not be written at any place', async () => {
      await file.writev([halves[1]], BYTES);
      await file.writev([halves[0]], 0);
    });
    await tried('a file can not be synced (fdatasync, fsync)', async () => {
      await file.datasync();
      await file.sync();
    });
    await tried('a folder can not be synced (fsync)', async () => {
      const folder = await open(place, 'r');
      await folder.sync().finally(() => folder.close());
    });
    await tried('what was written is not what is read', async () => {
      if (!(await readFile(first)).equals(Buffer.concat(halves))) throw new Error('other bytes are there');
    });
    await tried('a file can not be given a second name (link)', () => link(first, second));
    await tried('a second name (link) takes the place of another file', () => exists(link(first, second)));
    await tried('a file can not take the place of another one (rename)', async () => {
      await (await open(third, 'wx')).close();
      await rename(third, second);
      if ((await readFile(second)).length > 0) throw new Error('the former one is still there');
    });
    await tried('a file can not be read on when it was removed', async () => {
      await unlink(first);
      const { buffer } = await file.read(Buffer.alloc(BYTES), 0, BYTES, BYTES);
      if (!buffer.equals(halves[1])) throw new Error('other bytes are there');
    });
  } finally {
    await file.close();
  }
}

/** @throws unless the attempt fails as it has to. */
async function exists(attempt: Promise<unknown>): Promise<void> {
  try {
    const made = await attempt;
    await (made as { close?: () => Promise<void> } | undefined)?.close?.();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw error;
  }
  throw new Error('it was not refused');
}

function isFull(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOSPC' || code === 'EDQUOT';
}
