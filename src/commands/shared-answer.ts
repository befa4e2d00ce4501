import { setTimeout as sleep } from 'node:timers/promises';

/**
 * A question that is sought one at a time: whoever asks meanwhile, or within `keepMs` milliseconds after, gets the same
 * answer (or the same failure). One that hangs is not asked again.
 */
export function shared<T>(keepMs: number, seek: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  let until = Number.POSITIVE_INFINITY;
  return () => {
    if (answer && performance.now() < until) return answer;
    until = Number.POSITIVE_INFINITY;
    answer = seek();
    const keep = () => {
      until = performance.now() + keepMs;
    };
    answer.then(keep, keep);
    return answer;
  };
}

/** Waits for `answer`, but no longer than `ms` milliseconds. @throws Error when it is late; what it throws itself. */
export async function within<T>(ms: number, answer: Promise<T>): Promise<T> {
  const over = new AbortController();
  const late = sleep(ms, undefined, { signal: over.signal }).then(() => {
    throw new Error(`no answer within ${ms} ms`);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    over.abort();
  }
}
