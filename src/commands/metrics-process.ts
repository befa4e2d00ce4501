import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, type Registry } from 'prom-client';

/** How often the event loop is looked at, in milliseconds; the delay is what it takes beyond that. */
const RESOLUTION_MS = 20;
/** A delay is shown for at least this long, so that no scrape misses it. */
const WINDOW_MS = 15_000;
const QUANTILES = [0.5, 0.99, 1];

/** A gauge that is read when it is asked for. */
export function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}

/** A counter of which somebody else keeps the count. */
export function counter(registry: Registry, name: string, help: string, read: () => number): void {
  new Counter({
    name,
    help,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}

/** What is told of every process, whatever it does: CPU, memory, and how late its event loop is. */
export function processMetrics(registry: Registry, role: 'primary' | 'worker'): void {
  const registers = [registry];
  new Counter({
    name: 'weighhouse_process_cpu_seconds_total',
    help: 'CPU time spent, by the primary process and by all workers together.',
    labelNames: ['role'],
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc({ role }, (user + system) / 1e6);
    },
  });
  new Gauge({
    name: 'weighhouse_process_resident_memory_bytes',
    help: 'Resident memory, of the primary process and of all workers together.',
    labelNames: ['role'],
    registers,
    collect() {
      this.set({ role }, process.memoryUsage.rss());
    },
  });
  const delay = eventLoopDelay();
  new Gauge({
    name: 'weighhouse_event_loop_delay_seconds',
    help: 'How late the event loop was in the last 15 to 30 seconds, in the process where it was latest.',
    labelNames: ['role', 'quantile'],
    aggregator: 'max',
    registers,
    collect() {
      for (const [quantile, seconds] of delay()) this.set({ role, quantile }, seconds);
    },
  });
}

/** Quantiles of the present window and the one before it, the greater of both. */
function eventLoopDelay(): () => [quantile: number, seconds: number][] {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  let former = QUANTILES.map(() => 0);
  let begun = performance.now();
  const present = (quantile: number) =>
    histogram.count === 0 ? 0 : Math.max(0, histogram.percentile(quantile * 100) / 1e9 - RESOLUTION_MS / 1000);
  return () => {
    const now = QUANTILES.map(present);
    const shown = QUANTILES.map(
      (quantile, index) => [quantile, Math.max(now[index] ?? 0, former[index] ?? 0)] as [number, number],
    );
    if (performance.now() - begun >= WINDOW_MS) {
      former = now;
      begun = performance.now();
      histogram.reset();
    }
    return shown;
  };
}
