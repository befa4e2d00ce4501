import type { HealthReport } from '../http/ops/health.js';
import type { OpsRoutesOptions } from '../http/ops/routes.js';
import { converse, type Peer } from './dialogue.js';
import type { WorkerMetrics } from './metrics-worker.js';
import { within } from './shared-answer.js';

/** How long the primary may take, in milliseconds: a little longer than its own limits. */
const BEYOND_MS = 2_000;
const METRICS_MS = 8_000;

/** What a worker asks the primary process for, which finds it out for the whole node. */
export interface AskedPrimary extends OpsRoutesOptions {
  /** Tells the primary what this worker has counted, when it is about to end. */
  sayLast(): Promise<void>;
}

/** Begins to answer the primary's questions, and to ask it. `healthMs` is what it grants each check of health. */
export function askPrimary({ registry }: WorkerMetrics, healthMs: number): AskedPrimary {
  const counts = () => registry.getMetricsAsJSON();
  const dialogue = converse(process as Peer, { 'metrics of the worker': counts });
  return {
    health: async () => (await within(healthMs + BEYOND_MS, dialogue.ask('health of the node'))) as HealthReport,
    metrics: async () => (await within(METRICS_MS, dialogue.ask('metrics of the node'))) as string,
    sayLast: async () => await dialogue.tell('metrics of the worker', await counts()),
  };
}
