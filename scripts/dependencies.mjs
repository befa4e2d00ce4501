// Writes the facts of the production dependencies into the table of docs/dependencies.md: versions, dates, licences, what
// each pulls in. What is said by hand, the last two columns, stays. Needs `npm ci` and a registry that `npm view` reaches.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = join(root, 'docs', 'dependencies.md');
const readJson = (...path) => JSON.parse(readFileSync(join(root, ...path), 'utf8'));
const { packages } = readJson('package-lock.json');

/** The place of `name` as Node resolves it from the package at `from`; undefined for one of another platform. */
function place(from, name) {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    const path = `${folder ? `${folder}/` : ''}node_modules/${name}`;
    if (path in packages && statSync(join(root, path), { throwIfNoEntry: false })) return path;
    if (folder === '') return undefined;
  }
}

/** The places of a package and of all that it needs, itself first. */
function closure(path, found = new Set()) {
  if (found.has(path)) return found;
  found.add(path);
  const { dependencies, optionalDependencies, peerDependencies } = packages[path];
  for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) {
    const next = place(path, name);
    if (next) closure(next, found);
  }
  return found;
}

/** Bytes of a package's own files. */
function sizeOf(path) {
  let size = 0;
  for (const entry of readdirSync(join(root, path), { withFileTypes: true })) {
    if (entry.name === 'node_modules') continue;
    const inside = join(path, entry.name);
    if (entry.isDirectory()) size += sizeOf(inside);
    else if (entry.isFile()) size += statSync(join(root, inside)).size;
  }
  return size;
}

/** The columns that are kept by hand. */
function readReasons() {
  const reasons = new Map();
  for (const line of readFileSync(page, 'utf8').split('\n')) {
    const cells = line.split('|').map((cell) => cell.trim());
    if (/^`.+`$/.test(cells[1] ?? '')) reasons.set(cells[1].slice(1, -1), cells.slice(-3, -1));
  }
  return reasons;
}

const megabytes = (places) => `${([...places].reduce((sum, path) => sum + sizeOf(path), 0) / 1e6).toFixed(1)} MB`;

const columns = ['package', 'version', 'of', 'last release', 'licence', 'pulls in', 'together', 'for', 'why it'];

function row(name, version, reasons) {
  const view = ['view', name, 'dist-tags', 'time', '--json', '--loglevel=error'];
  const { 'dist-tags': tags, time } = JSON.parse(execFileSync('npm', view, { cwd: root, encoding: 'utf8' }));
  const day = (release) => time[release]?.slice(0, 10) ?? 'unknown';
  const latest = tags.latest === version ? 'the same' : `${tags.latest}, ${day(tags.latest)}`;
  const all = closure(`node_modules/${name}`);
  const [purpose = '', why = ''] = reasons.get(name) ?? [];
  const { license } = readJson('node_modules', name, 'package.json');
  const facts = [`\`${name}\``, version, day(version), latest, license, all.size - 1, megabytes(all)];
  return `| ${[...facts, purpose, why].join(' | ')} |`;
}

const reasons = readReasons();
const { dependencies } = readJson('package.json');
const lines = [`| ${columns.join(' | ')} |`, `|${'---|'.repeat(columns.length)}`];
for (const [name, version] of Object.entries(dependencies)) lines.push(row(name, version, reasons));
const all = new Set(Object.keys(dependencies).flatMap((name) => [...closure(`node_modules/${name}`)]));
const below = all.size - Object.keys(dependencies).length;
lines.push(`| all of them | | | | | ${below} | ${megabytes(all)} | | |`);
const text = readFileSync(page, 'utf8');
const table = `<!-- dependencies -->\n\n${lines.join('\n')}\n\n<!-- /dependencies -->`;
writeFileSync(
  page,
  text.replace(/<!-- dependencies -->[\s\S]*<!-- \/dependencies -->/, () => table),
);
