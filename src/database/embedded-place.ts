import { randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, opendir, readFile, realpath, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Account, findBarrier } from './embedded-account.js';
import { openFolderOfRoot, replaceFile } from './embedded-folders.js';

/** The folder of ours in which the cluster, its socket and its access rules lie. */
export interface Place {
  readonly folder: string;
  /** PostgreSQL's data directory. */
  readonly cluster: string;
  readonly socket: string;
  readonly access: string;
  /** Whether the cluster was there before. */
  readonly initialized: boolean;
}

// `<dataDir>/postgres-place`. It outlives the cluster, so that a lost one is missed instead of replaced by an empty one.
interface PlaceRecord {
  /** Relative to the data folder when inside it. */
  readonly place: string;
  readonly initialized: boolean;
}

// `<place>/data-folder`, kept by places outside of the data folder only: whose they are.
interface OwnerRecord {
  readonly path: string;
  readonly device: number;
  readonly inode: number;
}

const RECORD = 'postgres-place';
const INSIDE = 'postgres';
const OWNER = 'data-folder';
// Where clusters go that can't stay in the data folder. Never a temporary folder: systems clean those.
const SHELVES = ['/var/lib/weighhouse', '/var/db/weighhouse'];

/**
 * Finds the place of this data folder's cluster, undefined if it never had one.
 *
 * @param dataDir real path of the data folder
 * @throws Error when there was a cluster but it is gone, when it serves another data folder (this one is a copy), or
 *   when the data folder has blobs but no cluster
 */
export async function findPlace(dataDir: string): Promise<Place | undefined> {
  const record = await readJson<PlaceRecord>(join(dataDir, RECORD));
  const folder = resolve(dataDir, record?.place ?? INSIDE);
  const place = layOut(folder, await isFolder(join(folder, 'cluster')));
  if (!place.initialized) {
    if (record?.initialized) {
      throw new Error(
        `The database of the data folder ${dataDir} is missing: ${place.cluster} is not there (${join(dataDir, RECORD)} names it). ` +
          'Put it back, or start with an empty data folder.',
      );
    }
    if (await hasFiles(join(dataDir, 'blobs'))) {
      throw new Error(
        `The data folder ${dataDir} has blobs but no database: neither ${join(dataDir, RECORD)} nor ${join(dataDir, INSIDE)} is there. ` +
          'Put the database back (blobs alone are not a registry), or start with an empty data folder.',
      );
    }
  }
  if (record === undefined) return place.initialized ? place : undefined;
  if (await isFolder(folder)) await checkOwner(dataDir, folder);
  else if (!place.initialized) return undefined;
  return place;
}

/**
 * Makes the place of a data folder that has none: in the data folder if `account` can get there, else under /var/lib.
 *
 * @param dataDir real path of the data folder
 */
export async function makePlace(dataDir: string, account: Account, shelves = SHELVES): Promise<Place> {
  const barrier = await findBarrier(dataDir, account);
  const folder = barrier === undefined ? join(dataDir, INSIDE) : await makeOutside(dataDir, barrier, account, shelves);
  if (barrier === undefined) await makeFolder(folder, account);
  await writeRecord(dataDir, { place: barrier === undefined ? INSIDE : folder, initialized: false });
  return layOut(folder, false);
}

/** Notes that the cluster is there, from when on its absence is an error. */
export async function confirmPlace(dataDir: string): Promise<void> {
  const known = await readJson<PlaceRecord>(join(dataDir, RECORD));
  if (known?.initialized) return;
  await writeRecord(dataDir, { place: known?.place ?? INSIDE, initialized: true });
}

/** Throws when `account` can't reach an existing place. */
export async function checkReach(place: Place, account: Account): Promise<void> {
  const barrier = await findBarrier(await realpath(place.folder), account);
  if (barrier === undefined) return;
  throw new Error(
    `PostgreSQL runs as ${account.name}, which can't reach its database in ${place.folder}: chmod o+x ${barrier}`,
  );
}

function layOut(folder: string, initialized: boolean): Place {
  const cluster = join(folder, 'cluster');
  return { folder, cluster, socket: join(folder, 'socket'), access: join(folder, 'access'), initialized };
}

// Ours alone, or, when PostgreSQL has another account, passable for it: what lies inside guards itself.
async function makeFolder(folder: string, account: Account): Promise<void> {
  await mkdir(folder, { recursive: true });
  await chmod(folder, account.other ? 0o711 : 0o700);
}

async function makeOutside(dataDir: string, barrier: string, account: Account, shelves: string[]): Promise<string> {
  const faults: string[] = [];
  for (const shelf of shelves) {
    try {
      const opened = await realpath(await openFolderOfRoot(shelf));
      if ((await findBarrier(opened, account)) !== undefined) throw new Error(`${account.name} can't reach ${shelf}`);
      const folder = join(opened, randomBytes(8).toString('hex'));
      await makeFolder(folder, account);
      await writeOwner(dataDir, folder);
      return folder;
    } catch (error) {
      faults.push((error as Error).message);
    }
  }
  throw new Error(
    `PostgreSQL runs as ${account.name}, which can't reach ${barrier}, and there is no other place for the database ` +
      `(${faults.join('; ')}). Choose a REGISTRY_DATA_DIR that this account can reach.`,
  );
}

// A moved data folder takes its database along; a copied one must not share it with the original.
async function checkOwner(dataDir: string, folder: string): Promise<void> {
  const owner = await readJson<OwnerRecord>(join(folder, OWNER));
  if (owner === undefined) return;
  const ours = await stat(dataDir);
  if (owner.path === dataDir && owner.inode === ours.ino && owner.device === ours.dev) return;
  const original = owner.path === dataDir ? undefined : await stat(owner.path).catch(() => undefined);
  const sameFolder = original?.ino === ours.ino && original?.dev === ours.dev;
  if (
    original !== undefined &&
    !sameFolder &&
    (await readJson<PlaceRecord>(join(owner.path, RECORD)))?.place === folder
  ) {
    throw new Error(
      `The data folder ${dataDir} is a copy of ${owner.path}, whose database is in ${folder} and was not copied. ` +
        'Two registries can not share it: copy the database too (with both stopped) and name it in ' +
        `${join(dataDir, RECORD)}, or start with an empty data folder.`,
    );
  }
  await writeOwner(dataDir, folder);
}

async function writeOwner(dataDir: string, folder: string): Promise<void> {
  const { dev, ino } = await stat(dataDir);
  const owner: OwnerRecord = { path: dataDir, device: dev, inode: ino };
  await replaceFile(join(folder, OWNER), `${JSON.stringify(owner)}\n`, 0o600);
}

async function writeRecord(dataDir: string, record: PlaceRecord): Promise<void> {
  await replaceFile(join(dataDir, RECORD), `${JSON.stringify(record)}\n`, 0o600);
}

async function readJson<T>(path: string): Promise<T | undefined> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new Error(`${path} is damaged`, { cause });
  }
}

async function isFolder(path: string): Promise<boolean> {
  const status = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  });
  return status?.isDirectory() ?? false;
}

async function hasFiles(folder: string): Promise<boolean> {
  const entries = await opendir(folder, { recursive: true }).catch(() => undefined);
  if (entries === undefined) return false;
  for await (const entry of entries) if (!entry.isDirectory()) return true;
  return false;
}
