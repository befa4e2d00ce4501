import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** V8 allows 64 MiB of such buffers before it looks at the whole heap. */
const EVERY_BYTES = 16 * 1024 * 1024;
/** How much the old generation and all buffers together may grow before V8 does: to three times of what a process needs. */
const GROWING_PERCENT = 200;

let passed = 0;
let collect: ((options: { type: 'minor' }) => void) | undefined;

/**
 * For a process through which gigabytes pass, at its start. The heap is small and the buffers count as if they were in it,
 * so V8 would otherwise mark all of it for every 36 MiB that pass, which takes as much as to hash them twice.
 */
export function tuneCollector(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWING_PERCENT}`);
}

/**
 * Told of bytes that came in buffers of their own, which are garbage a moment later. V8 sees the small heads of such
 * buffers, of which thousands fit into its young generation, while their bytes add up. So the young generation is collected
 * when there is something to be had: little of it is alive then, and it costs a millisecond.
 */
export function passedBytes(count: number): void {
  passed += count;
  if (passed < EVERY_BYTES) return;
  passed = 0;
  collect ??= findCollector();
  collect({ type: 'minor' });
}

function findCollector(): (options: { type: 'minor' }) => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as (options: { type: 'minor' }) => void;
}
