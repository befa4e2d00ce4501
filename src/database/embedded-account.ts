import { lstat, readFile, stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname } from 'node:path';

/** The account of the operating system that PostgreSQL runs as. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
  readonly name: string;
  /** Whether children must be started under another uid than ours (we are root). */
  readonly other: boolean;
}

/** What `spawn` needs to run something as `account`. The environment is ours to choose: nothing of the caller's leaks in. */
export function spawnOptions(account: Account) {
  return {
    cwd: '/',
    env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', TZ: 'UTC' },
    ...(account.other ? { uid: account.uid, gid: account.gid } : {}),
  };
}

/** The name of the account that this process runs as. Throws when the system has none for its uid. */
export function ownName(): string {
  try {
    return userInfo().username;
  } catch (cause) {
    throw new Error(
      `The uid ${process.getuid?.()} has no name in the system's list of accounts, and PostgreSQL does not start without one. ` +
        'Add the account, or set REGISTRY_DATABASE_URL to a PostgreSQL of your own.',
      { cause },
    );
  }
}

/**
 * The account that runs PostgreSQL: ourselves, or, as PostgreSQL refuses to run as root, the owner of the cluster,
 * else `postgres`, else `nobody`. (What runs as the same account can read the cluster's files, whatever PostgreSQL
 * checks at its door; so `nobody`, which others use too, comes last.)
 *
 * @param cluster folder of the cluster, where one exists
 * @throws Error when there is no such account, or when the cluster belongs to somebody else
 */
export async function findAccount(cluster: string | undefined): Promise<Account> {
  const { getuid, getgid } = process;
  if (getuid === undefined || getgid === undefined) {
    throw new Error('The embedded PostgreSQL runs on Linux and macOS only: set REGISTRY_DATABASE_URL.');
  }
  const uid = getuid();
  const owner = cluster === undefined ? undefined : (await lstat(cluster)).uid;
  if (uid !== 0) {
    if (owner !== undefined && owner !== uid) {
      throw new Error(
        `The database in ${cluster} belongs to the uid ${owner}: run the registry as that, not as ${uid}.`,
      );
    }
    return { uid, gid: getgid(), name: ownName(), other: false };
  }
  const accounts = await readAccounts();
  const account =
    owner === undefined
      ? ['postgres', '_postgres', 'nobody'].map((name) => accounts.find((one) => one.name === name)).find(Boolean)
      : accounts.find((one) => one.uid === owner);
  if (account === undefined || account.uid === 0) {
    throw new Error(
      owner === undefined
        ? 'PostgreSQL does not run as root, and this system has no account `postgres` or `nobody`: add one, ' +
            'run the registry as an ordinary user, or set REGISTRY_DATABASE_URL.'
        : `The database in ${cluster} belongs to the uid ${owner}, which can't run PostgreSQL on this system.`,
    );
  }
  return account;
}

// Node has no getpwnam. The accounts sought are the system's own, which are in this file on Linux and macOS.
async function readAccounts(): Promise<Account[]> {
  const accounts: Account[] = [];
  for (const line of (await readFile('/etc/passwd', 'utf8')).split('\n')) {
    const [name, , uid, gid] = line.split(':');
    if (!name || name.startsWith('#') || !uid || !gid) continue;
    // macOS writes nobody as -2.
    accounts.push({ name, uid: Number(uid) >>> 0, gid: Number(gid) >>> 0, other: true });
  }
  return accounts;
}

/**
 * The first of `path` and its parents that `account` can't pass through (or, for a file, read), going by the
 * permission bits; undefined if all is open. `path` must be free of symbolic links (realpath).
 */
export async function findBarrier(path: string, account: Account): Promise<string | undefined> {
  if (!account.other) return undefined;
  const status = await stat(path);
  const shift = status.uid === account.uid ? 6 : status.gid === account.gid ? 3 : 0;
  const wanted = status.isDirectory() ? 1 : 4;
  const parent = dirname(path);
  const above = parent === path ? undefined : await findBarrier(parent, account);
  return above ?? (((status.mode >> shift) & wanted) === 0 ? path : undefined);
}
