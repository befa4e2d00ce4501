import { randomBytes } from 'node:crypto';
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  realpath,
  rename,
  rm,
  rmdir,
  symlink,
  unlink,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

/**
 * Makes the data folder where there is none: ours alone, or, when we are root, passable for the account that runs
 * PostgreSQL (what lies in it guards itself).
 *
 * @returns its real path
 */
export async function openDataFolder(dataDir: string): Promise<string> {
  const mode = process.getuid?.() === 0 ? 0o711 : 0o700;
  const path = resolve(dataDir);
  // The mode goes through the umask.
  if ((await mkdir(path, { recursive: true, mode })) !== undefined) await chmod(path, mode);
  return realpath(path);
}

/** Opens or makes a folder that only root can change, so that nothing in it was put there by somebody else. */
export async function openFolderOfRoot(folder: string): Promise<string> {
  await mkdir(folder, { mode: 0o755 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const status = await lstat(folder);
  if (!status.isDirectory() || status.uid !== 0 || (status.mode & 0o022) !== 0) {
    throw new Error(`${folder} is not a folder that only root can write to`);
  }
  // The mode above went through the umask.
  if ((status.mode & 0o111) !== 0o111) await chmod(folder, 0o755);
  return folder;
}

/** Makes the entries of a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder);
  await handle.sync().finally(() => handle.close());
}

/** Makes a whole tree durable and readable for all; files keep their x. */
export async function syncTree(folder: string, mode: number): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path, mode);
    else if (entry.isFile()) {
      const file = await open(path);
      const executable = ((await file.stat()).mode & 0o100) !== 0;
      await file
        .chmod(executable ? mode : mode & 0o666)
        .then(() => file.sync())
        .finally(() => file.close());
    }
  }
  await chmod(folder, mode);
  await syncFolder(folder);
}

/** Writes a file that is either the old or the new one after a crash. */
export async function replaceFile(path: string, content: string, mode: number): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString('hex')}`;
  const file = await open(draft, 'wx', mode);
  try {
    await file.writeFile(content);
    await file.chmod(mode);
    await file.sync();
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  await rename(draft, path);
  await syncFolder(dirname(path));
}

// sun_path has 104 bytes on macOS and 108 on Linux, its final NUL included.
const LONGEST_SOCKET_PATH = 103;
// PostgreSQL appends .lock to some.
const ROOM = 5;
const PREFIX = 'weighhouse-';

/** A short way to a folder of sockets. */
export interface Alias {
  readonly path: string;
  /** Removes the alias, not the folder. */
  remove(): Promise<void>;
}

/**
 * The path of `folder`, or a symbolic link to it in a temporary folder of ours where sockets named like `longestName`
 * would not fit into a socket's address: the limit is on the string, not on where it leads. So the sockets always lie
 * in the data folder, where all that share it find them.
 *
 * @param name what the link's folder is called, so that it is the same the next time; random if undefined
 */
export async function aliasFolder(folder: string, longestName: string, name?: string): Promise<Alias> {
  if (fits(folder, longestName)) return { path: folder, remove: async () => undefined };
  const above = fits(join(tmpdir(), PREFIX.padEnd(40)), longestName) ? tmpdir() : '/tmp';
  const parent = (name && (await makeOwn(join(above, `${PREFIX}${name}`)))) || (await mkdtemp(join(above, PREFIX)));
  // Others may pass (PostgreSQL's account must) but not write; the folder linked to guards itself.
  await chmod(parent, 0o711);
  const path = join(parent, 's');
  await unlink(path).catch(() => undefined);
  await symlink(folder, path);
  return { path, remove: () => removeAlias(path) };
}

// Undefined if somebody else has a thing of that name.
async function makeOwn(path: string): Promise<string | undefined> {
  await mkdir(path, { mode: 0o700 }).catch(() => undefined);
  const status = await lstat(path).catch(() => undefined);
  const ours = status?.isDirectory() && status.uid === process.getuid?.() && (status.mode & 0o022) === 0;
  return ours ? path : undefined;
}

/** Removes an alias by its path, as a killed process may have left it; never the folder itself. */
export async function removeAlias(path: string): Promise<void> {
  const parent = dirname(path);
  if (!basename(parent).startsWith(PREFIX)) return;
  const status = await lstat(path).catch(() => undefined);
  if (!status?.isSymbolicLink() || status.uid !== process.getuid?.()) return;
  await unlink(path).catch(() => undefined);
  await rmdir(parent).catch(() => undefined);
}

function fits(folder: string, name: string): boolean {
  return Buffer.byteLength(folder) + 1 + Buffer.byteLength(name) + ROOM <= LONGEST_SOCKET_PATH;
}
