// Prometheus' text format, read back.
import { expect } from 'chai';
import { exchange } from './wire.js';

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Metric {
  readonly help: string;
  readonly type: string;
  /** By their own names: those of a histogram end in `_bucket`, `_sum` and `_count`. */
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
}

/** Reads an exposition; anything that is not of the format is an error. */
export function parseExposition(text: string): Map<string, Metric> {
  const metrics = new Map<string, { help: string; type: string; samples: Map<string, Sample[]> }>();
  let last = '';
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const about = /^# (HELP|TYPE) (\w+) (.+)$/.exec(line);
    if (about) {
      const [, kind, name = '', rest = ''] = about;
      if (kind === 'HELP') {
        expect(metrics.has(name), `${name} comes once`).to.equal(false);
        metrics.set(name, { help: rest, type: '', samples: new Map() });
      } else Object.assign(metrics.get(name) ?? {}, { type: rest });
      last = name;
      continue;
    }
    const [, name = '', inner = '', value = ''] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    const metric = metrics.get(last);
    const family = metric?.type === 'histogram' ? name.replace(/_(bucket|sum|count)$/, '') : name;
    if (!metric || family !== last) throw new Error(`no line of an exposition: ${line}`);
    const labels = Object.fromEntries(
      [...inner.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)/g)].map(([, label, text]) => [label, text] as const),
    );
    metric.samples.set(name, [...(metric.samples.get(name) ?? []), { labels, value: Number(value) }]);
  }
  return metrics;
}

/** What a listener of operations serves. */
export async function scrape(host: string): Promise<Map<string, Metric>> {
  const answer = await exchange(host, 'GET', '/metrics', { headers: { authorization: '' } });
  expect(answer.status).to.equal(200);
  expect(answer.headers['content-type']).to.equal('text/plain; version=0.0.4; charset=utf-8');
  return parseExposition(answer.body.toString());
}

/** The sum of the samples that carry these labels; 0 if there are none. */
export function sumOf(metrics: Map<string, Metric>, name: string, labels: Record<string, string> = {}): number {
  const samples = [...metrics.values()].flatMap((metric) => metric.samples.get(name) ?? []);
  return samples
    .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
    .reduce((sum, { value }) => sum + value, 0);
}

/** The names of all labels of a metric, without the `le` of buckets. */
export function labelsOf(metric: Metric): string[] {
  const names = [...metric.samples.values()].flat().flatMap(({ labels }) => Object.keys(labels));
  return [...new Set(names)].filter((name) => name !== 'le').sort();
}
