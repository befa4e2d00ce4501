import { setTimeout as sleep } from 'node:timers/promises';
import { isAnswer, S3Error, s3Error } from './failures.js';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 3_000;

/** Waits before a request is repeated: longer each time, and not together with all the others. */
export async function pauseBefore(attempt: number, signal?: AbortSignal): Promise<void> {
  const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
  await sleep(longest * (0.25 + 0.75 * Math.random()), undefined, signal && { signal });
}

/**
 * Runs one request and gives it up after `limitMs`: a gateway whose disks are away neither fails nor answers.
 * @throws S3Error; the signal's reason when that ended it
 */
export async function attempt<T>(
  operation: string,
  limitMs: number,
  run: (signal: AbortSignal) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const timer = setTimeout(
    () => controller.abort(new S3Error(operation, 'again', 'TimedOut', undefined, `after ${limitMs} ms`)),
    limitMs,
  );
  const stop = () => controller.abort(signal?.reason);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    return await run(controller.signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw s3Error(operation, controller.signal.aborted ? controller.signal.reason : error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

/** What bounds a request that is repeated. */
export interface Patience {
  /** One attempt, in milliseconds. */
  readonly limitMs: number;
  /** After this no further one is begun. */
  readonly patienceMs: number;
}

/** As `attempt`, again and again as long as the answer is that it may fare better. For requests that can be repeated. */
export async function attempts<T>(
  operation: string,
  { limitMs, patienceMs }: Patience,
  run: (signal: AbortSignal) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const begun = performance.now();
  for (let count = 0; ; count++) {
    try {
      return await attempt(operation, limitMs, run, signal);
    } catch (error) {
      if (!isAnswer(error, 'again') || performance.now() - begun >= patienceMs) throw error;
    }
    await pauseBefore(count, signal).catch(() => undefined);
    signal?.throwIfAborted();
  }
}
