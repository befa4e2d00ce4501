import type { Database } from '../database/connect.js';
import { isFailure } from '../errors.js';
import type { Digest } from '../oci/digest.js';
import { startReplacement } from '../registry/replacements.js';
import type { SegmentKey, UploadingSegmentStore } from '../storage/segment-store.js';
import type { Job } from './jobs.js';
import { Rewriter, type RewriterOptions } from './rewriter.js';

export interface StraysOptions extends RewriterOptions {
  readonly store: UploadingSegmentStore;
  readonly everyMs: number;
}

/**
 * Ends uploads that are still listed under the key of a sealed segment, whose writer is done. Such keys have a name, so
 * neither the removals nor the orphans see them. There are two kinds:
 *
 * S3 began an upload, its answer was lost, and another was begun, which became the object. The former never got a part:
 * nobody has its id, and an object can't need it. It is aborted.
 *
 * S3 died when it had published the object and not yet dropped its upload. The two share their bytes, so it is never
 * aborted while a row names the key. The blob is written anew under another key, and the old one goes by the removals
 * (decision 0018). As long as it is no blob yet it is left alone: its session either commits it or ends.
 */
export function straysJob(options: StraysOptions): Job {
  const rewriter = new Rewriter(options);
  return { name: 'strays', everyMs: options.everyMs, run: (stopping) => sweep(options, rewriter, stopping) };
}

async function sweep(options: StraysOptions, rewriter: Rewriter, stopping?: AbortSignal): Promise<boolean> {
  const { database, store, log } = options;
  const left = new Set<SegmentKey>();
  for await (const key of store.listBegun())
    if ((await isSealed(database, key)) && (await store.removeStrays(key)) > 0) left.add(key);
  for (const key of left) {
    if (stopping?.aborted) break;
    try {
      await leave(options, rewriter, key, stopping);
    } catch (error) {
      // The others are not to wait for one that can't be written.
      const level = isFailure(error, 'Unavailable') ? 'warn' : 'error';
      log[level]({ err: error, object: key }, 'a blob could not be written anew; it will be tried again');
    }
  }
  return false;
}

async function isSealed(database: Database, key: SegmentKey): Promise<boolean> {
  return (await database.query('select from segments where key = $1 and object_size is not null', [key])).length > 0;
}

/** Writes the blob anew that has this key, if one has. */
async function leave(
  { database, log, pause }: StraysOptions,
  rewriter: Rewriter,
  key: SegmentKey,
  stopping: AbortSignal | undefined,
): Promise<void> {
  const [blob] = await database.query<{ digest: Digest; body: number }>(
    `select b.digest, b.body from segments s join blobs b on b.body = s.body where s.key = $1`,
    [key],
  );
  if (!blob || rewriter.isDamaged(blob.digest, blob.body)) return;
  await pause('strays:chosen');
  const replacement = await startReplacement(database, blob.digest, key);
  if (!replacement) return;
  const { digest, size } = replacement;
  log.warn(
    { digest, size, object: key },
    'the gateway died over a blob, whose upload is still listed: it is written anew',
  );
  await rewriter.rewrite(replacement, stopping);
}
