// Test suites, those joined by + at the same time, since most of a suite's time is waiting; http:1/2 is every second file,
// faults/process-: those whose names begin so:
//
//   node scripts/suites.mjs http:1/2+http:2/2+unit faults
//
// The output of the first of those that run together is shown as it comes, that of the others when they end; last comes one
// line that counts them all.
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const COUNTS = /^(\d+) passed, (\d+) failed, (\d+) skipped$/gm;

/** The compiled tests of a suite, or of a share of it. */
function filesOf(suite) {
  const [name = '', share = '1/1'] = suite.split(':');
  const [which, count] = share.split('/').map(Number);
  const [room = '', beginning = ''] = name.split('/');
  const folder = join('dist/test', room);
  const files = readdirSync(join(root, folder), { recursive: true }).filter(
    (file) => file.endsWith('.test.js') && file.startsWith(beginning),
  );
  return files
    .sort()
    .filter((_, index) => index % count === which - 1)
    .map((file) => join(folder, file));
}

/** Runs one suite of compiled tests. What it says is shown at once, or at its end. */
function runSuite(suite, { node, env, atOnce }) {
  return new Promise((done, fail) => {
    const args = ['node_modules/mocha/bin/mocha.js', ...filesOf(suite)];
    const child = spawn(node, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const end = (signal) => child.kill(signal);
    process.once('SIGTERM', end);
    const said = [];
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        said.push({ name, text });
        if (atOnce) process[name].write(text);
      });
    }
    child.on('error', fail);
    child.on('close', (code, signal) => {
      process.off('SIGTERM', end);
      if (!atOnce) for (const { name, text } of said) process[name].write(text);
      const text = (wanted) => said.flatMap(({ name, text }) => (name === wanted ? [text] : [])).join('');
      const counts = [...text('stdout').matchAll(COUNTS)].at(-1)?.slice(1).map(Number);
      const faults = [];
      if (counts === undefined) faults.push(`${suite}: no counts`);
      if (code !== 0) faults.push(`${suite}: ended with ${code ?? signal}`);
      done({ counts: counts ?? [0, 0, 0], faults, stderr: text('stderr') });
    });
  });
}

/**
 * Runs suites, each a folder below test/ or a share of one, at the same time.
 * @returns how many tests passed, failed and were skipped; what went wrong; what was said on stderr.
 */
export async function runTogether(suites, { node = process.execPath, env = process.env } = {}) {
  const ended = await Promise.all(suites.map((suite, index) => runSuite(suite, { node, env, atOnce: index === 0 })));
  return {
    counts: [0, 1, 2].map((place) => ended.reduce((sum, { counts }) => sum + counts[place], 0)),
    faults: ended.flatMap(({ faults }) => faults),
    stderr: ended.map(({ stderr }) => stderr).join(''),
  };
}

/** The closing line that every tool can read. */
export function closingLine([passed, failed, skipped]) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const total = [0, 0, 0];
  const faults = [];
  for (const group of process.argv.slice(2)) {
    const { counts, faults: found } = await runTogether(group.split('+'));
    for (const place of [0, 1, 2]) total[place] += counts[place];
    faults.push(...found);
  }
  console.log(`\n${faults.map((fault) => `${fault}\n`).join('')}${closingLine(total)}`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}
