import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, chown, lchown, lstat, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Account, ownName, spawnOptions } from './embedded-account.js';
import { replaceFile, syncFolder } from './embedded-folders.js';
import type { Place } from './embedded-place.js';
import type { Programs } from './embedded-programs.js';

/** Name of our role (a superuser of its own cluster) and of our database. */
export const NAME = 'weighhouse';
/** A part of the socket's name only: there is no TCP. */
export const PORT = 5432;

const DRAFT = 'cluster.draft-';

/**
 * Makes the cluster by initdb under a temporary name and renames it, so that a kill in the middle leaves nothing that
 * passes for a cluster. Removes what earlier kills left.
 */
export async function makeCluster(place: Place, programs: Programs, account: Account): Promise<void> {
  await removeDrafts(place);
  const draft = join(place.folder, `${DRAFT}${randomBytes(6).toString('hex')}`);
  // Made by us: initdb takes an empty folder, and its account need not be able to write beside it.
  await mkdir(draft, { mode: 0o700 });
  if (account.other) await chown(draft, account.uid, account.gid);
  const settings = [
    '--encoding=UTF8',
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--data-checksums',
  ];
  // Rules of access come from files of ours; these are for whoever starts the cluster by hand.
  const access = [`--username=${NAME}`, '--auth-local=peer', '--auth-host=reject'];
  try {
    await promisify(execFile)(
      programs.initdb,
      ['-D', draft, ...settings, ...access, '--no-instructions'],
      spawnOptions(account),
    );
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw new Error(`initdb failed in ${place.folder}: ${String((error as { stderr?: string }).stderr ?? '').trim()}`, {
      cause: error,
    });
  }
  await rename(draft, place.cluster);
  await syncFolder(place.folder);
}

async function removeDrafts(place: Place): Promise<void> {
  for (const name of await readdir(place.folder)) {
    // An initdb whose registry was killed may still write there: it fails then, and the rest goes the next time.
    if (name.startsWith(DRAFT))
      await rm(join(place.folder, name), { recursive: true, force: true }).catch(() => undefined);
  }
}

/**
 * Checks that these programs can serve this cluster.
 *
 * @throws Error naming both versions
 */
export async function checkVersion(place: Place, programs: Programs): Promise<void> {
  const version = (await readFile(join(place.cluster, 'PG_VERSION'), 'utf8')).trim();
  if (version === String(programs.major)) return;
  throw new Error(
    `The database in ${place.cluster} is of PostgreSQL ${version}, and this registry comes with PostgreSQL ${programs.major} ` +
      `(${programs.version}): start it with the version that it had before, or move the data by pg_upgrade or a dump.`,
  );
}

/** What initdb numbered the cluster with, the first 8 bytes of its control file. */
export async function readSystemIdentifier(place: Place): Promise<string> {
  const file = await open(join(place.cluster, 'global/pg_control'));
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0);
    if (bytesRead !== 8) throw new Error(`${place.cluster}/global/pg_control is damaged`);
    return buffer.readBigUInt64LE().toString();
  } finally {
    await file.close();
  }
}

/**
 * Writes who may connect: over the socket only, and the kernel says who asks (peer), so there is no password to keep.
 * Ourselves and PostgreSQL's account become the role; any other local user is refused, though the socket's folder
 * (mode 0700) stops them before. The files are ours, not of PostgreSQL's account.
 *
 * @returns the settings that PostgreSQL must be started with
 */
export async function writeAccess(place: Place, account: Account): Promise<Record<string, string>> {
  await mkdir(place.access, { recursive: true });
  await chmod(place.access, 0o755);
  const names = [...new Set([ownName(), account.name])];
  const rules = `local all ${NAME} peer map=${NAME}\n`;
  const map = names.map((name) => `${NAME} "${name}" ${NAME}\n`).join('');
  const files = { hba_file: join(place.access, 'pg_hba.conf'), ident_file: join(place.access, 'pg_ident.conf') };
  for (const [path, content] of [
    [files.hba_file, rules],
    [files.ident_file, map],
  ] as const) {
    const same = (await readFile(path, 'utf8').catch(() => undefined)) === content;
    if (!same) await replaceFile(path, content, 0o644);
  }
  return files;
}

/** Makes the folder of the socket, which is PostgreSQL's alone (and root's). */
export async function makeSocketFolder(place: Place, account: Account): Promise<void> {
  await mkdir(place.socket, { recursive: true, mode: 0o700 });
  const status = await lstat(place.socket);
  if (!status.isDirectory()) throw new Error(`${place.socket} is not a folder`);
  if (account.other && status.uid !== account.uid) await lchown(place.socket, account.uid, account.gid);
}

/**
 * The settings that the server is started with. What makes a commit durable is not for the caller to change by
 * accident: it is on by PostgreSQL's defaults, and only a setting of the same name takes it away.
 *
 * wal_level stays `replica`, so that pg_basebackup and archiving remain possible.
 */
export function chooseSettings(access: Record<string, string>, extra: Record<string, string>): Record<string, string> {
  const settings: Record<string, string> = {
    listen_addresses: '',
    port: String(PORT),
    unix_socket_permissions: '0700',
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    autovacuum: 'on',
    shared_buffers: '128MB',
    max_connections: '100',
    jit: 'off',
    // Not /dev/shm: a container has 64 MB of it, and systemd empties it of a user's files when that user logs out.
    dynamic_shared_memory_type: 'mmap',
    // The cores are the registry's.
    max_parallel_workers_per_gather: '0',
    idle_in_transaction_session_timeout: '60s',
    timezone: 'UTC',
    log_timezone: 'UTC',
    // Messages go to our log (see embedded-server.ts). Statements stay out: they hold what users sent.
    log_destination: 'stderr',
    logging_collector: 'off',
    log_line_prefix: '',
    log_min_messages: 'warning',
    log_min_error_statement: 'panic',
    log_checkpoints: 'off',
    ...extra,
    ...access,
  };
  // Seen again in a running server, it tells whether that was started as we would start it.
  settings[FINGERPRINT] = createHash('sha256').update(JSON.stringify(settings)).digest('hex').slice(0, 32);
  return settings;
}

/** The setting that holds a digest of all settings. */
export const FINGERPRINT = 'weighhouse.settings';
