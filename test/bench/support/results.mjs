// What was measured, as the sections of test/bench/RESULTS.md: a table for each place, with every round.
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { DISTRIBUTION_NAME, DOCKER_REGISTRY_NAME } from './peers.mjs';
import { median, tableOf } from './table.mjs';

const FILE = fileURLToPath(new URL('../RESULTS.md', import.meta.url));
const ZOT = 'zot (by the reference)';
const PEERS = [DISTRIBUTION_NAME, DOCKER_REGISTRY_NAME, ZOT];
const DIGITS = 3;
const COLUMNS = 120;

/** A number as short as three digits allow. */
function short(value) {
  if (!Number.isFinite(value)) return '';
  const whole = Math.max(0, Math.floor(Math.log10(Math.abs(value) || 1)) + 1);
  return value.toFixed(Math.min(DIGITS, Math.max(0, DIGITS - whole)));
}

/** Words in lines of at most `COLUMNS`. */
const wrap = (text) => `${text.replace(new RegExp(`(.{1,${COLUMNS}})(?: |$)`, 'g'), '$1\n')}`;

/**
 * The rows of one table: each figure, of each who was measured, in each round.
 * @param figures by name { unit, less, zot }: whether less is better, and zot's ratio to distribution by place
 * @param measured [{ place, round, name, figures }]
 */
function rowsOf(figures, place, measured) {
  const rounds = [...new Set(measured.map(({ round }) => round))];
  return Object.entries(figures).flatMap(([title, { unit, less = false, zot = {} }]) => {
    const rows = [...new Set(measured.map(({ name }) => name))].map((name) => {
      const values = rounds.map(
        (round) => measured.find((one) => one.round === round && one.name === name)?.figures[title],
      );
      return { title: `${title}, ${unit}`, name, values, median: median(values) };
    });
    const distribution = rows.find(({ name }) => name === DISTRIBUTION_NAME)?.median;
    if (zot[place] && distribution) rows.push({ name: ZOT, values: [], median: zot[place] * distribution });
    const peers = rows.filter((row) => PEERS.includes(row.name) && row.median !== undefined).map((row) => row.median);
    const best = less ? Math.min(...peers) : Math.max(...peers);
    const nginx = rows.find(({ name }) => name === 'nginx')?.median;
    const ratio = (row, to) => (less ? to / row.median : row.median / to);
    const isOurs = ({ name }) => !PEERS.includes(name) && name !== 'nginx';
    return rows
      .filter((row) => row.median !== undefined)
      .map((row, index) => ({
        ...row,
        title: index === 0 ? `${title}, ${unit}` : '',
        toPeer: isOurs(row) && peers.length > 0 ? short(ratio(row, best)) : '',
        toNginx: row.name !== 'nginx' && nginx && !less ? short(ratio(row, nginx)) : '',
      }));
  });
}

/**
 * A section as it stands in the file: what was run, what was not and why, a table for each place.
 * @param outcome what was measured, or tables that are written already; and what is lacking here, a sentence each
 */
export function renderSection({ title, about, figures }, options, { measured, lacking = [], tables }) {
  const places = [...new Set(measured.map(({ place }) => place))];
  const own = places.map((place) => {
    const here = measured.filter((one) => one.place === place);
    const rounds = [...new Set(here.map(({ round }) => round))];
    const rows = rowsOf(figures, place, here);
    const columns = {
      [place]: (row) => row.title,
      of: (row) => row.name,
      ...Object.fromEntries(rounds.map((round, index) => [`round ${round}`, (row) => short(row.values[index])])),
      median: (row) => short(row.median),
      ': best peer': (row) => row.toPeer,
      ...(rows.some((row) => row.toNginx) && { ': nginx': (row) => row.toNginx }),
    };
    return tableOf(columns, rows);
  });
  const missing = lacking.map((line) => `Not run: ${line}.\n`);
  return [`## ${title}\n`, wrap(about), `\`${options}\`\n`, ...missing, ...(tables ?? own)].join('\n');
}

const mark = (name) => [`<!-- section ${name} -->`, `<!-- /section ${name} -->`];

/** Puts a section into the file, where it stood or at its place in the order of `names`; the others stay. */
export function keepSection(names, name, text) {
  const before = readFileSync(FILE, 'utf8');
  const found = names.map((one) => {
    const [begin, end] = mark(one);
    const body = one === name ? `\n${text}\n` : before.split(begin)[1]?.split(end)[0];
    return body === undefined ? '' : `${begin}${body}${end}\n`;
  });
  const machine = `The machine: ${availableParallelism()} cores, ${Math.round(totalmem() / 1024 ** 3)} GiB.`;
  const head = before.split('<!-- section')[0].replace(/^The machine: .*$/m, machine);
  writeFileSync(FILE, `${head}${found.filter((one) => one !== '').join('\n')}`);
}
