import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { signal, until } from '../faults/support/processes.js';
import { createPolicy } from '../../src/policies/policies.js';
import { onDatabase, UNHEARD } from '../support/keys.js';
import { makeKey } from '../support/keys.js';
import { ADMIN_KEY, freePort, startServer, type TestServer } from '../support/server.js';
import { bytesOf, digestOf, openUpload, patch, pushBlob, pushImage } from './content.js';
import { labelsOf, type Metric, parseExposition, scrape, sumOf } from './exposition.js';
import { exchange, head, Wire } from './wire.js';

const REPOSITORY = 'secret-project/model';

describe('the metrics of a registry', function () {
  this.timeout(60_000);
  let server: TestServer;
  let operations: string;
  let digest: string;

  before(async () => {
    operations = `127.0.0.1:${await freePort()}`;
    server = await startServer({ environment: { REGISTRY_OPERATIONS_LISTEN: operations } });
    digest = await pushBlob(server, REPOSITORY, bytesOf('metrics', 200_000));
    await pushImage(server, REPOSITORY, 'v1');
    await onDatabase(server, (database) =>
      database.transaction((rows) => createPolicy(rows, 'unused/*', { quota_bytes: 1_000_000 }, 1, UNHEARD)),
    );
    await untilWorkers(2);
  });
  after(async () => {
    await server?.dispose();
  });

  async function untilWorkers(count: number): Promise<void> {
    await until(`${count} workers are up`, async () => {
      const metrics = await scrape(operations);
      return sumOf(metrics, 'weighhouse_workers_up') === count && sumOf(metrics, 'weighhouse_workers_late') === 0;
    });
  }

  /** What later values are compared with: a worker that is late would be in it with less than it has counted. */
  async function baseline(): Promise<Map<string, Metric>> {
    let metrics = new Map<string, Metric>();
    await until('no worker is late', async () => {
      metrics = await scrape(operations);
      return sumOf(metrics, 'weighhouse_workers_late') === 0;
    });
    return metrics;
  }

  /** Waits for a value that settles soon: a request is counted when its response is over. */
  async function untilValue(name: string, labels: Record<string, string>, wanted: number): Promise<void> {
    let seen = Number.NaN;
    await until(`${name} ${JSON.stringify(labels)} is ${wanted}`, async () => {
      seen = sumOf(await scrape(operations), name, labels);
      expect(seen).to.be.at.most(wanted);
      return seen === wanted;
    });
  }

  /** Waits for a gauge, which may pass through other values. */
  async function untilGauge(name: string, wanted: number): Promise<void> {
    await until(`${name} is ${wanted}`, async () => sumOf(await scrape(operations), name) === wanted);
  }

  it('are the ones in docs/metrics.md, each with its type, labels and meaning', async () => {
    const page = await readFile(new URL('../../../docs/metrics.md', import.meta.url), 'utf8');
    const documented = [...page.matchAll(/^\| `(weighhouse_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$/gm)];
    const rows = documented.map(([, name, type, labels = '', help]) => [
      name,
      type,
      [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label).sort(),
      help,
    ]);
    const served = [...(await scrape(operations))].map(([name, metric]) => [
      name,
      metric.type,
      labelsOf(metric),
      metric.help,
    ]);
    const byName = (a: unknown[], b: unknown[]) => String(a[0]).localeCompare(String(b[0]));
    expect(rows.sort(byName)).to.deep.equal(served.sort(byName));
    expect(rows.length).to.be.above(20);
  });

  it('have names and units as Prometheus wants them', async () => {
    for (const [name, { type, help }] of await scrape(operations)) {
      expect(name).to.match(/^weighhouse_[a-z_]+$/);
      expect(name.endsWith('_total'), name).to.equal(type === 'counter');
      expect(name).not.to.match(/_(ms|milliseconds|kb|mb|minutes)(_|$)/);
      expect(help, name).to.match(/\.$/);
    }
  });

  it('count each request by the template of its route, over all workers', async () => {
    const kinds = [
      ['GET', `/v2/${REPOSITORY}/blobs/${digest}`, '/v2/*name/blobs/:digest', '200'],
      ['HEAD', `/v2/${REPOSITORY}/blobs/${digest}`, '/v2/*name/blobs/:digest', '200'],
      ['GET', `/v2/${REPOSITORY}/manifests/nothing`, '/v2/*name/manifests/:reference', '404'],
      ['GET', '/v2/', '/v2/', '200'],
      ['GET', '/v2/nothing/here', 'none', '404'],
      ['PURGE', '/v2/', 'none', '405'],
    ] as const;
    for (const [method, path, route, status] of kinds) {
      const labels = { method: method === 'PURGE' ? 'other' : method, route, status };
      const before = await baseline();
      // A connection each, so that both workers get some.
      for (let round = 0; round < 10; round++)
        expect(String((await exchange(server.host, method, path)).status)).to.equal(status);
      await untilValue('weighhouse_requests_total', labels, sumOf(before, 'weighhouse_requests_total', labels) + 10);
      const { status: _status, ...ofDuration } = labels;
      const count = 'weighhouse_request_duration_seconds_count';
      expect(sumOf(await baseline(), count, ofDuration)).to.be.at.least(sumOf(before, count, ofDuration) + 10);
    }
    const location = await openUpload(server, REPOSITORY);
    await patch(server, location, bytesOf('metrics', 10), 0);
    const route = '/v2/*name/blobs/uploads/:upload';
    await untilValue('weighhouse_requests_total', { method: 'PATCH', route, status: '202' }, 1);
    await until(
      'the session shows',
      async () => sumOf(await scrape(operations), 'weighhouse_upload_sessions_open') > 0,
    );
  });

  it('count bytes of content both ways, while they pass', async () => {
    const bytes = bytesOf('passing', 300_000);
    const location = await openUpload(server, REPOSITORY);
    const before = await baseline();
    const received = sumOf(before, 'weighhouse_received_bytes_total');
    const wire = (await Wire.open(server.host)).write(head('PATCH', location, `Content-Length: ${bytes.length}`));
    wire.write(bytes.subarray(0, 100_000));
    await untilValue('weighhouse_received_bytes_total', {}, received + 100_000);
    await untilGauge('weighhouse_requests_in_flight', 1);
    wire.write(bytes.subarray(100_000));
    await wire.untilAnswers(1);
    await untilValue('weighhouse_received_bytes_total', {}, received + 300_000);
    await untilGauge('weighhouse_requests_in_flight', 0);
    wire.end();
    const sent = sumOf(await baseline(), 'weighhouse_sent_bytes_total');
    const read = await exchange(server.host, 'GET', `/v2/${REPOSITORY}/blobs/${digest}`);
    expect(read.body).to.have.lengthOf(200_000);
    await untilValue('weighhouse_sent_bytes_total', {}, sent + 200_000);
    const manifest = await exchange(server.host, 'GET', `/v2/${REPOSITORY}/manifests/v1`);
    await exchange(server.host, 'HEAD', `/v2/${REPOSITORY}/manifests/v1`);
    await untilValue('weighhouse_sent_bytes_total', {}, sent + 200_000 + manifest.body.length);
  });

  it('tell a request that was broken off from one that was answered', async () => {
    const labels = { status: 'broken', route: '/v2/*name/blobs/uploads/:upload' };
    const wires: Wire[] = [];
    for (let round = 0; round < 3; round++) {
      const location = await openUpload(server, REPOSITORY);
      wires.push((await Wire.open(server.host)).write(head('PATCH', location, 'Content-Length: 10')).write('half'));
    }
    await untilGauge('weighhouse_requests_in_flight', 3);
    for (const wire of wires) wire.end();
    await untilValue('weighhouse_requests_total', labels, 3);
    await untilGauge('weighhouse_requests_in_flight', 0);
  });

  it('count a request whose answer nobody reads, and not those behind it, which are never begun', async () => {
    const location = await openUpload(server, REPOSITORY);
    const before = sumOf(await baseline(), 'weighhouse_requests_total', { status: 'broken' });
    const wire = (await Wire.open(server.host)).write(head('PATCH', location, 'Content-Length: 4')).write('half');
    await wire.untilAnswers(1);
    // A blob too large for the sockets, which nobody reads, and two behind it.
    const large = await pushBlob(server, REPOSITORY, bytesOf('large', 30 * 1024 * 1024));
    const silent = await Wire.open(server.host);
    silent.socket.pause();
    silent.write(head('GET', `/v2/${REPOSITORY}/blobs/${large}`));
    for (const path of ['manifests/v1', `blobs/${digest}`]) silent.write(head('GET', `/v2/${REPOSITORY}/${path}`));
    await untilGauge('weighhouse_requests_in_flight', 1);
    silent.end();
    await untilGauge('weighhouse_requests_in_flight', 0);
    await untilValue('weighhouse_requests_total', { status: 'broken' }, before + 1);
    wire.end();
  });

  it('count log-ins that were refused, and not requests without credentials', async () => {
    const labels = { reason: 'unknown' };
    const before = sumOf(await baseline(), 'weighhouse_refused_logins_total', labels);
    for (let round = 0; round < 4; round++) {
      await exchange(server.host, 'GET', '/v2/', { headers: { authorization: '' } });
      await exchange(server.host, 'GET', '/v2/', { headers: { authorization: 'Basic YTpi' } });
    }
    await untilValue('weighhouse_refused_logins_total', labels, before + 4);
    expect(sumOf(await scrape(operations), 'weighhouse_bcrypt_checks_total')).to.be.above(0);
    expect(sumOf(await scrape(operations), 'weighhouse_key_cache_lookups_total', { outcome: 'hit' })).to.be.above(0);
  });

  it('never go down when a worker is killed, nor lose what one counted that ends in order', async () => {
    const labels = { method: 'GET', route: '/v2/', status: '200' };
    const name = 'weighhouse_requests_total';
    const load = async () => {
      for (let round = 0; round < 20; round++) await exchange(server.host, 'GET', '/v2/');
    };
    let wanted = sumOf(await baseline(), name, labels);
    for (const how of ['SIGKILL', 'SIGTERM'] as const) {
      await load();
      wanted += 20;
      // One that is killed takes with it what nobody had asked for; one that ends tells it.
      if (how === 'SIGKILL') await untilValue(name, labels, wanted);
      const [worker = 0] = await server.workers();
      signal(worker, how);
      await until('another worker came', async () => {
        const metrics = await scrape(operations);
        expect(sumOf(metrics, name, labels)).to.be.at.least(how === 'SIGKILL' ? wanted : wanted - 20);
        return !(await server.workers()).includes(worker) && sumOf(metrics, 'weighhouse_workers_up') === 2;
      });
      await untilValue(name, labels, wanted);
      if (how === 'SIGKILL') await untilValue('weighhouse_worker_restarts_total', {}, 1);
    }
  });

  it('are served with what a worker said last while it hangs', async () => {
    await untilWorkers(2);
    const before = await scrape(operations);
    const [worker = 0] = await server.workers();
    signal(worker, 'SIGSTOP');
    try {
      await until('a worker is late', async () => {
        const begun = performance.now();
        const metrics = await scrape(operations);
        // Whoever waits for the worker waits until it goes on.
        expect(performance.now() - begun).to.be.below(10_000);
        for (const name of ['weighhouse_requests_total', 'weighhouse_sent_bytes_total'])
          expect(sumOf(metrics, name)).to.be.at.least(sumOf(before, name));
        return sumOf(metrics, 'weighhouse_workers_late') === 1;
      });
    } finally {
      signal(worker, 'SIGCONT');
    }
    await untilWorkers(2);
  });

  it('are served on the main listener to an admin key alone', async () => {
    const answer = await server.request('GET', '/metrics');
    expect(answer.status).to.equal(200);
    const metrics = parseExposition(await answer.text());
    expect([...metrics.keys()]).to.deep.equal([...(await scrape(operations)).keys()]);
    for (const authorization of ['', 'Basic YTpi'])
      expect((await exchange(server.host, 'GET', '/metrics', { headers: { authorization } })).status).to.equal(401);
    const writer = await makeKey(server, ['**=pull,push,delete,deploy']);
    const reading = await makeKey(server, ['**=admin'], { readOnly: true });
    for (const [{ authorization }, status] of [
      [writer, 403],
      [reading, 200],
    ] as const)
      expect((await exchange(server.host, 'GET', '/metrics', { headers: { authorization } })).status).to.equal(status);
  });

  it('hold no name of a repository, no tag, digest, key, address or path', async () => {
    await exchange(server.host, 'GET', `/v2/${REPOSITORY}/manifests/${digestOf('x')}?n=${ADMIN_KEY}`);
    await exchange(server.host, 'PROPFIND', `/${ADMIN_KEY}/a/path`);
    const metrics: Map<string, Metric> = await scrape(operations);
    const values = new Set<string>();
    for (const { samples } of metrics.values())
      for (const { labels } of [...samples.values()].flat())
        for (const value of Object.values(labels)) values.add(value);
    for (const value of values) {
      expect(value).not.to.include('secret-project');
      expect(value).not.to.include('sha256');
      expect(value).not.to.include(ADMIN_KEY);
      expect(value).not.to.include('127.0.0.1');
      // The pattern of a quota is what an admin wrote.
      if (value.includes('/') && value !== 'unused/*')
        expect(value).to.match(/^\/(v2\/[a-z*:/_]*|metrics|health|health\/live)$/);
    }
  });
});
