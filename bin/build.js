// Compiles what is stale, so that `npm start` and `npm test` work from a fresh clone: `src` or `all` (with the tests).
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

function fingerprint(folders) {
  const lines = [];
  const walk = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (entry.name.endsWith('.ts')) {
        const { size, mtimeMs } = statSync(path);
        lines.push(`${path} ${size} ${mtimeMs}`);
      }
    }
  };
  for (const folder of folders) walk(join(root, folder));
  return lines.sort().join('\n');
}

/** Compiles `src`, or with `all` the tests too, unless nothing changed since the last time. */
export function build(what) {
  // An installed package comes compiled, without sources.
  let sources;
  try {
    sources = fingerprint(what === 'all' ? ['src', 'test'] : ['src']);
  } catch (error) {
    if (error.code === 'ENOENT') return;
    throw error;
  }
  const stamp = join(root, 'dist', `${what}.stamp`);
  try {
    if (readFileSync(stamp, 'utf8') === sources) return;
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  const project = join(root, what === 'all' ? 'tsconfig.json' : 'tsconfig.src.json');
  const { status } = spawnSync(process.execPath, [tsc, '-p', project, '--noEmitOnError'], { stdio: ['ignore', 2, 2] });
  if (status !== 0) process.exit(status ?? 1);
  mkdirSync(join(root, 'dist'), { recursive: true });
  writeFileSync(stamp, sources);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) build(process.argv[2] ?? 'src');
