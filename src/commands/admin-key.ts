import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { newKey, parseKey } from '../auth/key-text.js';
import { addAdminKey, findKeyHash, matchesKey, putAdminKey } from '../auth/keys.js';
import type { Config } from '../config.js';
import type { Database } from '../database/connect.js';
import { locally } from './audit-access.js';

const ADMIN = 'admin';

/**
 * Sees to the admin key: the operator's own choice, or one that is made at the first start and kept in the data folder.
 * One that was revoked stays so: another key, or `weighhouse key create --admin`, opens the registry again.
 * @returns the key if it was made now, to be shown once.
 */
export async function ensureAdminKey(database: Database, config: Config): Promise<string | undefined> {
  if (config.adminKey !== '') {
    const stored = await findKeyHash(database, parseKey(config.adminKey).id);
    if (!stored || !(await matchesKey(config.adminKey, stored.hash)))
      await putAdminKey(database, config.adminKey, 'REGISTRY_ADMIN_KEY', config.bcryptCost, locally());
    return undefined;
  }
  if (await findKeyHash(database, ADMIN)) return undefined;
  // The file comes first: a start that is killed in between finds the key there and goes on with it.
  const path = adminKeyPath(config);
  const kept = await readSecret(path);
  const key = kept || newKey(ADMIN);
  if (!kept) await writeSecret(path, `${key}\n`);
  if (await addAdminKey(database, key, 'first admin key', config.bcryptCost, locally())) return key;
  // Another node was first: its key counts, and this one opens nothing.
  await rm(path, { force: true });
  return undefined;
}

/** Id of the key that `ensureAdminKey` makes if it is not there. */
export function madeKeyId(config: Config): string {
  return config.adminKey === '' ? ADMIN : parseKey(config.adminKey).id;
}

/** Where the first admin key is kept. */
export function adminKeyPath(config: Config): string {
  return join(config.dataDir, 'admin-key');
}

async function readSecret(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function writeSecret(path: string, text: string): Promise<void> {
  await mkdir(join(path, '..'), { recursive: true });
  const temporary = `${path}.${process.pid}`;
  const file = await open(temporary, 'w', 0o600);
  await file.writeFile(text);
  await file.sync();
  await file.close();
  await rename(temporary, path);
}
