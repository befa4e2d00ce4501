import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { api } from '../support/api.js';
import { freePort, startServer, type TestServer } from '../support/server.js';
import { pushImage } from './content.js';
import { type Metric, scrape, sumOf } from './exposition.js';
import { mentionsOf } from './promql.js';

const DOCS = new URL('../../../docs/', import.meta.url);

interface Alert {
  readonly name: string;
  readonly expression: string;
  readonly severity: string | undefined;
  readonly summary: string | undefined;
  readonly runbook: string | undefined;
}

/** The rules, which are written one field a line. */
async function alerts(): Promise<Alert[]> {
  const text = await readFile(new URL('alerts.yml', DOCS), 'utf8');
  const [, ...rules] = text.split(/^ *- alert: /m);
  return rules.map((rule) => {
    const field = (name: string) => new RegExp(`^ +${name}: (.+)$`, 'm').exec(rule)?.[1];
    return {
      name: rule.split('\n')[0] ?? '',
      expression: field('expr') ?? '',
      severity: field('severity'),
      summary: field('summary'),
      runbook: field('runbook'),
    };
  });
}

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}

async function panels(): Promise<Panel[]> {
  const text = await readFile(new URL('grafana-dashboard.json', DOCS), 'utf8');
  return (JSON.parse(text) as { panels: Panel[] }).panels;
}

describe('what watches a registry', function () {
  this.timeout(60_000);
  let server: TestServer;
  let metrics: Map<string, Metric>;

  before(async () => {
    const operations = `127.0.0.1:${await freePort()}`;
    server = await startServer({ environment: { REGISTRY_OPERATIONS_LISTEN: operations } });
    await pushImage(server, 'watched/model', 'v1');
    await api(server, 'POST', '/policies', { body: { pattern: 'watched/**', quota_bytes: 1_000_000 } });
    await (await server.request('GET', '/v2/watched/model/manifests/v1')).text();
    await until('the request is counted', async () => {
      metrics = await scrape(operations);
      const labels = { route: '/v2/*name/manifests/:reference', method: 'GET' };
      const all = sumOf(metrics, 'weighhouse_workers_up') === 2 && sumOf(metrics, 'weighhouse_workers_late') === 0;
      return all && sumOf(metrics, 'weighhouse_requests_total', labels) > 0;
    });
  });
  after(async () => {
    await server?.dispose();
  });

  /** Everything in an expression, and in the labels that are shown beside it, that a running registry does not serve. */
  function faultsOf(expression: string, shown: readonly string[] = []): string[] {
    const { metrics: mentioned, grouped } = mentionsOf(expression);
    // Prometheus itself adds these to what it scrapes.
    const added = new Map([
      ['job', new Set(['weighhouse'])],
      ['instance', new Set<string>()],
    ]);
    const known = new Map(added);
    const faults: string[] = mentioned.length === 0 ? ['no metric'] : [];
    for (const { metric, labels } of mentioned) {
      const samples = [...metrics.values()].flatMap((family) => family.samples.get(metric) ?? []);
      if (samples.length === 0 && metric !== 'up') faults.push(metric);
      const own = new Map(added);
      for (const sample of samples)
        for (const [name, value] of Object.entries(sample.labels))
          own.set(name, (own.get(name) ?? new Set<string>()).add(value));
      for (const { name, equals } of labels) {
        if (!own.has(name)) faults.push(`${metric}{${name}}`);
        else if (equals !== undefined && !own.get(name)?.has(equals)) faults.push(`${metric}{${name}="${equals}"}`);
      }
      for (const [name, values] of own) known.set(name, values);
    }
    for (const name of [...grouped, ...shown]) if (!known.has(name)) faults.push(`label ${name}`);
    return faults;
  }

  it('is told apart from what does not exist by the reading of expressions', () => {
    for (const [expression, fault] of [
      ['rate(weighhouse_no_such_total[5m])', 'weighhouse_no_such_total'],
      ['weighhouse_workers_up{colour="red"} > 0', 'weighhouse_workers_up{colour}'],
      ['weighhouse_health_check_up{check="weather"}', 'weighhouse_health_check_up{check="weather"}'],
      ['sum by (colour) (weighhouse_workers_up)', 'label colour'],
      ['sum(weighhouse_workers_up) without (colour)', 'label colour'],
      ['42', 'no metric'],
    ] as const)
      expect(faultsOf(expression), expression).to.deep.equal([fault]);
    expect(faultsOf('histogram_quantile(0.9, sum by (le) (rate(weighhouse_request_duration_seconds_bucket[5m])))')).to
      .be.empty;
  });

  it('finds every metric and label that the alerts mention', async () => {
    const rules = await alerts();
    expect(rules.length).to.be.above(10);
    for (const { name, expression } of rules) expect(faultsOf(expression), name).to.deep.equal([]);
  });

  it('finds every metric and label that the dashboard mentions', async () => {
    const drawn = (await panels()).filter(({ type }) => type !== 'row');
    expect(drawn.length).to.be.above(10);
    for (const { title, targets = [] } of drawn) {
      expect(targets, title).not.to.be.empty;
      for (const { expr, legendFormat } of targets) {
        const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label ?? '');
        expect(faultsOf(expr, shown), title).to.deep.equal([]);
      }
    }
  });

  it('draws every metric, but for when the node was started', async () => {
    const text = JSON.stringify(await panels());
    const missing = [...metrics.keys()].filter((name) => !text.includes(name));
    expect(missing).to.deep.equal(['weighhouse_start_time_seconds']);
  });

  it('says of each alert how severe it is, in a sentence what it is about, and where to read on', async () => {
    const page = await readFile(new URL('operations.md', DOCS), 'utf8');
    const anchors = [...page.matchAll(/^#+ (.+)$/gm)].map(([, title]) => title?.toLowerCase().replaceAll(' ', '-'));
    const names = new Set<string>();
    for (const { name, severity, summary, runbook } of await alerts()) {
      expect(name).to.match(/^Weighhouse[A-Z][A-Za-z]+$/);
      expect(names.has(name), `${name} is there once`).to.equal(false);
      names.add(name);
      expect(severity, name).to.be.oneOf(['critical', 'warning']);
      expect(summary, name).to.match(/\w+.*\.'?$/);
      expect(runbook, name).to.equal(`docs/operations.md#alert-${name.toLowerCase()}`);
      expect(anchors, name).to.include(`alert-${name.toLowerCase()}`);
    }
    for (const anchor of anchors.filter((title) => title?.startsWith('alert-')))
      expect([...names].map((name) => `alert-${name.toLowerCase()}`)).to.include(anchor);
  });
});
