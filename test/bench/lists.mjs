// What the pages of the metadata API's lists cost in a large registry: 1,000 models, 20,000 releases of which one model has the
// half, 60,000 artifacts, 30,000 deployments, 1,000,000 rows of the record. Nothing is asserted (test/unit/metadata/plans.test.ts
// does that); the database alone is measured, without HTTP.
//
//   npm run bench:lists -- [--all] [--times 20] [--audit 1000000]
//
// A line for each list, with its slowest page; with --all one for each page. It runs its own PostgreSQL in a folder that is
// removed in the end.
import { parseArgs } from 'node:util';
import { build } from '../../bin/build.js';

const LIMIT = 50;
const { values } = parseArgs({
  options: {
    all: { type: 'boolean', default: false },
    times: { type: 'string', default: '20' },
    audit: { type: 'string', default: '1000000' },
  },
});
const times = Number(values.times);

await build('all');
const { connect } = await import('../../dist/src/database/connect.js');
const { listAudit } = await import('../../dist/src/metadata/audit-list.js');
const { fillCatalog, repositoryOf } = await import('../../dist/test/support/catalog.js');
const { EVERYTHING, listCases, THIRTY_MODELS } = await import('../../dist/test/support/catalog-pages.js');
const { explain, Listening } = await import('../../dist/test/support/plans.js');
const { createDatabase, stopSharedPostgres } = await import('../../dist/test/support/postgres.js');

/** Lists of the record, as `listCases` has the others. */
const auditCases = [
  {},
  { actor: 'key7' },
  { action: 'manifest.push' },
  { action: 'blob.*' },
  { resourceType: 'manifest' },
  { resourceId: 'c4ca4238a0b923820dcc509a6f75849b' },
  { repository: repositoryOf(1) },
  { repository: repositoryOf(777), action: 'manifest.*' },
].map((filters) => ({
  list: 'audit logs',
  name: `audit logs ${JSON.stringify(filters)}`,
  async read(queries, _rights, { limit, cursor }) {
    const { rows, next } = await listAudit(queries, { filters, cursor, limit });
    return { items: rows, next: next ?? null };
  },
}));

const median = (numbers) => numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length / 2)];

/** Runs a page several times, and once to see what it reads. */
async function measure(database, one, rights, page) {
  const listening = new Listening(database);
  const { items, next } = await one.read(listening, rights, page);
  const spent = [];
  for (let run = 0; run < times; run++) {
    const start = performance.now();
    await one.read(database, rights, page);
    spent.push(performance.now() - start);
  }
  let blocks = 0;
  for (const statement of listening.statements) blocks += (await explain(database, statement)).blocks;
  return { next, items: items.length, milliseconds: median(spent), blocks, statements: listening.statements.length };
}

function print(rows, columns) {
  const width = (column) => Math.max(column.length, ...rows.map((row) => String(row[column]).length));
  const line = (cell) => console.info(`| ${columns.map((column) => cell(column).padEnd(width(column))).join(' | ')} |`);
  line((column) => column);
  line((column) => '-'.repeat(width(column)));
  for (const row of rows) line((column) => String(row[column]));
}

async function main() {
  const place = await createDatabase();
  const database = connect({ url: place.url, pool: 2, timeout: 600 });
  try {
    console.info('filling a database …');
    await database.transaction((transaction) => fillCatalog(transaction, { auditRows: Number(values.audit) }));
    await database.query('vacuum analyze');
    const pages = [];
    for (const one of [...listCases(), ...auditCases])
      for (const [who, rights] of [
        ['all', EVERYTHING],
        ['30 models', THIRTY_MODELS],
      ])
        for (let cursor, number = 1; number <= 2; number++) {
          const { next, milliseconds, ...cost } = await measure(database, one, rights, { limit: LIMIT, cursor });
          // Texts are looked for everywhere, which the other pages of a list should not hide.
          const list = /, q "/.test(one.name) ? `${one.list}, text` : one.list;
          pages.push({ list, page: `${one.name} (${number})`, sees: who, ms: milliseconds.toFixed(2), ...cost });
          if (next === null) break;
          cursor = next;
        }
    if (values.all) print(pages, ['page', 'sees', 'items', 'statements', 'ms', 'blocks']);
    else print(summaryOf(pages), ['list', 'pages', 'median ms', 'slowest ms', 'blocks', 'slowest page', 'sees']);
  } finally {
    await database.close();
    await place.drop();
    await stopSharedPostgres();
  }
}

function summaryOf(pages) {
  return [...new Set(pages.map(({ list }) => list))].map((list) => {
    const all = pages.filter((page) => page.list === list);
    const slowest = all.toSorted((one, other) => other.ms - one.ms)[0];
    const middle = median(all.map((page) => Number(page.ms))).toFixed(2);
    const { ms, blocks, page, sees } = slowest;
    return { list, pages: all.length, 'median ms': middle, 'slowest ms': ms, blocks, 'slowest page': page, sees };
  });
}

await main();
