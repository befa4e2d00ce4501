// npm run fuzz -- [--seconds 600] [--seed N] [--first N] [--count N]
import { parseArgs } from 'node:util';
import { stopSharedPostgres } from '../support/postgres.js';
import { startServer } from '../support/server.js';
import { expectNothingLeft, memoryOfWorkers } from './aftermath.js';
import { type Counts, FUZZ_ENVIRONMENT, fuzz, newCounts } from './fuzz.js';
import { readRoutes } from './routes.js';

const text = { type: 'string' } as const;
const { values } = parseArgs({ options: { seconds: text, seed: text, first: text, count: text } });
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const seconds = Number(values.seconds ?? 600);

function table({ byRoute }: Counts): string {
  const statuses = [...new Set([...byRoute.values()].flatMap((counts) => [...counts.keys()]))].sort((a, b) => a - b);
  const cell = (content: string | number) => String(content).padStart(7);
  const names = [...byRoute.keys()].sort();
  const width = Math.max(...names.map((name) => name.length));
  const header = 'route'.padEnd(width) + statuses.map((status) => cell(status === 0 ? 'none' : status)).join('');
  const rows = names.map(
    (name) => name.padEnd(width) + statuses.map((s) => cell(byRoute.get(name)?.get(s) ?? '')).join(''),
  );
  return [header, ...rows].join('\n');
}

console.log(`seed ${seed}, ${values.count === undefined ? `${seconds} s` : `${values.count} requests`}`);
const counts = newCounts();
const server = await startServer({ environment: FUZZ_ENVIRONMENT });
try {
  const workers = await server.workers();
  const begun = performance.now();
  await fuzz({
    server,
    routes: await readRoutes(),
    seed,
    first: Number(values.first ?? 0),
    ...(values.count === undefined ? { until: begun + seconds * 1000 } : { count: Number(values.count) }),
    counts,
  });
  const took = Math.round((performance.now() - begun) / 1000);
  console.log(
    `${counts.requests} requests in ${took} s; workers hold ${(await memoryOfWorkers(server)).join(', ')} MiB`,
  );
  console.log(table(counts));
  await expectNothingLeft(server, workers);
} catch (error) {
  counts.faults.push(String(error));
} finally {
  await server.dispose();
  await stopSharedPostgres();
}
for (const fault of counts.faults) console.log(`\nfault: ${fault}`);
console.log(`\n${counts.requests} requests, ${counts.faults.length} faults, seed ${seed}`);
process.exitCode = counts.faults.length === 0 ? 0 : 1;
