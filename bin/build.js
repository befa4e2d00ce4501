// Compiles what is stale, so that `npm start` and `npm test` work from a fresh clone: `src` or `all` (with the tests).
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
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

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Whoever starts at this moment, or compiles, too, reads the old file or the new one, never a part. */
function writeWhole(path, text) {
  if (read(path) === text) return;
  mkdirSync(dirname(path), { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, text);
  renameSync(unfinished, path);
}

/** Writes nothing unless all compiles. */
async function compile(project) {
  const { default: ts } = await import('typescript');
  const config = ts.getParsedCommandLineOfConfigFile(join(root, project), { noEmitOnError: true }, ts.sys);
  const host = ts.createIncrementalCompilerHost(config.options);
  host.writeFile = writeWhole;
  const program = ts.createIncrementalProgram({
    rootNames: config.fileNames,
    options: config.options,
    configFileParsingDiagnostics: ts.getConfigFileParsingDiagnostics(config),
    host,
  });
  const { diagnostics } = program.emit();
  if (diagnostics.length === 0) return;
  process.stderr.write(ts.formatDiagnostics(diagnostics, host));
  process.exit(1);
}

/** Compiles `src`, or with `all` the tests too, unless nothing changed since the last time. */
export async function build(what) {
  const stamp = (name) => join(root, 'dist', `${name}.stamp`);
  // An installed package comes compiled, without sources.
  let stamps;
  try {
    stamps = { src: fingerprint(['src']), ...(what === 'all' && { all: fingerprint(['src', 'test']) }) };
  } catch (error) {
    if (error.code === 'ENOENT') return;
    throw error;
  }
  if (read(stamp(what)) === stamps[what]) return;
  await compile(what === 'all' ? 'tsconfig.json' : 'tsconfig.src.json');
  for (const [name, text] of Object.entries(stamps)) writeWhole(stamp(name), text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await build(process.argv[2] ?? 'src');
