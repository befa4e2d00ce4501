// The soak: clients, a collector that is never far behind, and somebody who kills processes.
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { runCommand } from '../../faults/support/command.js';
import { ask } from '../../faults/support/oracle.js';
import { signal } from '../../faults/support/processes.js';
import { startServer, type TestServer } from '../../support/server.js';
import { Client, type Counts } from './client.js';
import { drawFrom, makePool } from './content.js';

/** Seconds; an hour is `SOAK_SECONDS=3600`. */
const SECONDS = Number(process.env.SOAK_SECONDS ?? 60);
const CLIENTS = 8;
const POOL = 60;
const GRACE_SECONDS = 1;
/** So long it may be that nothing becomes less, while the collector, the removals and what looks for leftovers are at work. */
const STUCK_MS = 60_000;

/** Times as short as they can be. */
const HASTE = {
  REGISTRY_UPLOAD_LIFETIME: String(GRACE_SECONDS),
  REGISTRY_COLLECT_GRACE: String(GRACE_SECONDS),
  REGISTRY_COLLECT_INTERVAL: '1',
  REGISTRY_COLLECT_WALK_INTERVAL: '1',
  REGISTRY_COLLECT_RATE: '100000',
  REGISTRY_UNTAGGED_AGE: '1',
  REGISTRY_READ_GRACE: '1',
  REGISTRY_REMOVAL_DELAY: '1',
  REGISTRY_REMOVAL_SHARE: '100',
  REGISTRY_JOB_INTERVAL: '1',
  REGISTRY_RECORD_INTERVAL: '1',
  REGISTRY_LOG_LEVEL: 'warn',
};

export interface Soak {
  readonly environment: Readonly<Record<string, string>>;
  /** Holds the store against the rows; throws as long as something is missing or left over. */
  readonly compare: (server: TestServer) => Promise<void>;
}

/** Runs it to its end. @returns the counts, to be told. @throws AssertionError for what must not be */
export async function soak({ environment, compare }: Soak): Promise<Counts> {
  const server = await startServer({ environment: { ...HASTE, ...environment } });
  try {
    const counts: Counts = new Map();
    const faults: string[] = [];
    const over = new AbortController();
    const stage = {
      host: server.host,
      pool: makePool(POOL),
      names: Array.from({ length: CLIENTS }, (_, index) => `soak/client-${index}`),
      counts,
      faults,
      graceMs: GRACE_SECONDS * 900,
      over: over.signal,
    };
    const clients = stage.names.map((_, index) => new Client(stage, index));
    const timer = setTimeout(() => over.abort(), SECONDS * 1000);
    await Promise.all([...clients.map((client) => client.run()), killAtRandom(server, over.signal, counts)]);
    clearTimeout(timer);
    for (const client of clients) await client.checkAll();
    expect(faults.slice(0, 20), `${faults.length} faults`).to.deep.equal([]);
    await quiet(server, compare);
    for (const client of clients) await client.checkAll();
    expect(faults.slice(0, 20), `${faults.length} faults when it was quiet`).to.deep.equal([]);
    await count(server, counts);
    const checked = await runCommand('check', server.environment);
    expect(checked.code, checked.said).to.equal(0);
    const read = await runCommand('fsck', server.environment, ['--deep']);
    expect(read.code, read.said).to.equal(0);
    return counts;
  } finally {
    await server.dispose();
  }
}

/** Workers every few seconds, and now and then everything. */
async function killAtRandom(server: TestServer, over: AbortSignal, counts: Counts): Promise<void> {
  const draw = drawFrom(11);
  const done = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1);
  while (!over.aborted) {
    await sleep(2_000 + draw(4_000), undefined, { signal: over }).catch(() => undefined);
    if (over.aborted) return;
    if (draw(4) === 0) {
      await server.kill();
      await server.start();
      done('registries killed');
      continue;
    }
    const workers = await server.workers();
    const pid = workers[draw(workers.length)];
    if (pid === undefined) continue;
    signal(pid, 'SIGKILL');
    done('workers killed');
  }
}

/** Waits until nothing is left to be done, and the store has what the rows name and nothing more. */
async function quiet(server: TestServer, compare: Soak['compare']): Promise<void> {
  const url = server.environment.REGISTRY_DATABASE_URL ?? '';
  let least = Number.POSITIVE_INFINITY;
  let since = performance.now();
  for (;;) {
    await sleep(1_000);
    const left = await ask<{ left: string; rows: number }>(url, LEFT);
    const failed = await compare(server).then(
      () => undefined,
      (error: Error) => error,
    );
    const open = left.filter(({ rows }) => rows > 0);
    if (open.length === 0 && !failed) return;
    const rows = open.reduce((sum, of) => sum + of.rows, 0);
    if (rows < least) [least, since] = [rows, performance.now()];
    if (performance.now() > since + STUCK_MS) throw failed ?? new Error(`never done: ${JSON.stringify(open)}`);
  }
}

const LEFT = `
  select 'reviews' as left, count(*)::int as rows from reviews union all
  select 'requests', count(*)::int from review_requests union all
  select 'removals', count(*)::int from removals union all
  select 'uploads', count(*)::int from uploads union all
  select 'condemned links', count(*)::int from repository_blobs where condemned_at is not null union all
  select 'condemned manifests', count(*)::int from manifests where condemned_at is not null union all
  select 'blobs without a link', count(*)::int from blobs b
   where not exists (select from repository_blobs l where l.digest = b.digest) union all
  select 'links that nothing names', count(*)::int from repository_blobs l
   where not exists (select from manifest_references f where f.repository = l.repository and f.digest = l.digest) union all
  select 'bodies that nothing names', count(*)::int from bodies y
   where not exists (select from blobs b where b.body = y.id)`;

async function count(server: TestServer, counts: Counts): Promise<void> {
  const rows = await ask<{ action: string; rows: number }>(
    server.environment.REGISTRY_DATABASE_URL ?? '',
    `select action, count(*)::int as rows from audit_logs where actor = 'collector' group by action`,
  );
  for (const { action, rows: number } of rows) counts.set(`collected: ${action}`, number);
}
