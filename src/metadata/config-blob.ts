import { isFailure } from '../errors.js';
import type { Manifest } from '../oci/manifest.js';
import type { RepositoryName } from '../oci/name.js';
import type { Blobs } from '../registry/blobs.js';
import { MAX_CONFIG_BYTES } from '../weights/packaging.js';

/**
 * The config of a manifest, as JSON; undefined if it is not there, too large, or no JSON: what it says are facts, and no push
 * fails for them.
 */
export async function readConfig(blobs: Blobs, repository: RepositoryName, { config }: Manifest): Promise<unknown> {
  if (!config) return undefined;
  try {
    const blob = await blobs.getOpenable(repository, config.digest);
    if (blob.size > MAX_CONFIG_BYTES) return undefined;
    const bytes = await blob.open({ start: 0, end: blob.size });
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of bytes) chunks.push(Uint8Array.from(chunk));
    } finally {
      await bytes[Symbol.asyncDispose]();
    }
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown;
  } catch (error) {
    if (error instanceof SyntaxError || isFailure(error, 'BlobUnknown', 'BlobDamaged', 'Unavailable')) return undefined;
    throw error;
  }
}
