// A version of the registry from before, built from this checkout's history, to run beside the present one.
import { execFile } from 'node:child_process';
import { access, mkdir, rm, symlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const run = promisify(execFile);

/** The last commit that knew the migrations up to 0003 alone. */
export const FIRST = '981b021584';

/** Whether this checkout was made without its history: what came before can't be had then, whatever is installed. */
export async function hasNoHistory(): Promise<boolean> {
  const { stdout } = await run('git', ['rev-parse', '--is-shallow-repository'], { cwd: ROOT });
  return stdout.trim() === 'true';
}

/**
 * The folder of a version, compiled, with the present node_modules; it is kept for the next time.
 * @throws Error that says why it can't be had: no git, or no such commit in this checkout.
 */
export async function olderVersion(commit: string): Promise<string> {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'weighhouse', 'versions');
  const { stdout } = await run('git', ['rev-parse', '--verify', '--quiet', `${commit}^{commit}`], { cwd: ROOT });
  const folder = join(cache, stdout.trim());
  const built = await access(join(folder, 'dist/src.stamp')).then(
    () => true,
    () => false,
  );
  if (!built) {
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    await run('sh', ['-c', `git archive ${stdout.trim()} | tar -x -C "$0"`, folder], { cwd: ROOT });
  }
  // Of this checkout, wherever that of the last time was.
  await rm(join(folder, 'node_modules'), { force: true });
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'), 'dir');
  if (!built) await run(process.execPath, ['bin/build.js', 'src'], { cwd: folder });
  return folder;
}
