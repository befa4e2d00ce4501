import cluster, { type Worker } from 'node:cluster';
import {
  AggregatorRegistry,
  type MetricObject,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client';
import { converse, type Dialogue, type Topic } from './dialogue.js';
import { counter, gauge, processMetrics } from './metrics-process.js';
import { shared, within } from './shared-answer.js';
import type { FromWorker } from './worker-messages.js';

/** How long a scrape waits for the workers, in milliseconds; one that is late counts with what it said last. */
const PATIENCE_MS = 1_000;
/** How often the workers are asked even if nobody scrapes: so much is lost of the counts of one that is killed. */
const ASK_MS = 10_000;
/** Scrapes within this many milliseconds share their answer. */
const KEEP_MS = 500;

type Snapshot = MetricObjectWithValues<MetricValue<string>>[];

/** A worker as the primary knows it. */
interface Teller {
  last: Snapshot;
  /** Whether it has not answered the last question, yet. */
  late: boolean;
  ask(): Promise<void>;
}

/** The metrics of the node: of the primary process and of all its workers, those that ended included. */
export class GatheredMetrics {
  readonly registry = new Registry();
  readonly text = shared(KEEP_MS, () => this.#text());
  readonly #answers: Partial<Record<Topic, () => Promise<unknown>>>;
  readonly #tellers = new Map<number, Teller>();
  /** What workers that ended had counted. */
  #ended: MetricObject[] = [];
  #restarts = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param answers what workers may ask, beside the metrics of the node. */
  constructor(wanted: number, answers: Partial<Record<Topic, () => Promise<unknown>>>) {
    this.#answers = { ...answers, 'metrics of the node': this.text };
    const up = () => [...this.#tellers.values()];
    gauge(this.registry, 'weighhouse_workers_wanted', 'Workers that there should be.', () => wanted);
    gauge(this.registry, 'weighhouse_workers_up', 'Workers that there are.', () => up().length);
    gauge(
      this.registry,
      'weighhouse_workers_late',
      'Workers that did not answer this scrape in time; what they said last is shown.',
      () => up().filter(({ late }) => late).length,
    );
    counter(
      this.registry,
      'weighhouse_worker_restarts_total',
      'Workers that ended unasked, so that others were started.',
      () => this.#restarts,
    );
    processMetrics(this.registry, 'primary');
  }

  /** Begins to ask workers as soon as they serve. Before the first one is started. */
  start(): void {
    cluster.on('message', (worker, message: FromWorker) => {
      if (message === 'serving') this.#meet(worker);
    });
    cluster.on('exit', (worker) => {
      if (!worker.exitedAfterDisconnect) this.#restarts += 1;
    });
    this.#timer = setInterval(() => void this.#ask(), ASK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #meet(worker: Worker): void {
    if (this.#tellers.has(worker.id)) return;
    const dialogue: Dialogue = converse(worker, this.#answers, {
      'metrics of the worker': (value) => {
        teller.last = value as Snapshot;
      },
    });
    const teller: Teller = {
      last: [],
      late: false,
      ask: shared(0, async () => {
        teller.late = true;
        teller.last = (await dialogue.ask('metrics of the worker')) as Snapshot;
        teller.late = false;
      }),
    };
    this.#tellers.set(worker.id, teller);
    // Not at its exit: what it said before may still be on its way then.
    worker.once('disconnect', () => {
      this.#tellers.delete(worker.id);
      const counts = teller.last.filter(({ type }) => isCount(String(type)));
      this.#ended = AggregatorRegistry.aggregate([this.#ended, counts]).getMetricsAsArray();
    });
  }

  async #ask(): Promise<void> {
    const asked = [...this.#tellers.values()].map((teller) => within(PATIENCE_MS, teller.ask()));
    await Promise.allSettled(asked);
  }

  async #text(): Promise<string> {
    await this.#ask();
    const own = await this.registry.getMetricsAsJSON();
    // From here on nothing is waited for: a worker counts either among those that run or those that ended.
    const workers = [...this.#tellers.values()].map(({ last }) => last);
    return await AggregatorRegistry.aggregate([own, this.#ended, ...workers]).metrics();
  }
}

function isCount(type: string): boolean {
  return type === 'counter' || type === 'histogram';
}
