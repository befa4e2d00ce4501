import { isFailure } from '../errors.js';
import type { Manifest } from '../oci/manifest.js';
import type { RepositoryName } from '../oci/name.js';
import type { Blobs } from '../registry/blobs.js';
import { maxConfigSize, readConfig } from '../weights/packaging.js';

/**
 * The config of a manifest, as JSON; undefined if it is not there, too large, or no JSON: what it says are facts, and no push
 * fails for them.
 */
export async function readConfigBlob(blobs: Blobs, repository: RepositoryName, { config }: Manifest): Promise<unknown> {
  if (!config) return undefined;
  try {
    const blob = await blobs.getOpenable(repository, config.digest);
    if (blob.size > maxConfigSize) return undefined;
    const bytes = await blob.open({ start: 0, end: blob.size });
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of bytes) chunks.push(Uint8Array.from(chunk));
    } finally {
      await bytes[Symbol.asyncDispose]();
    }
    return readConfig(Buffer.concat(chunks));
  } catch (error) {
    if (isFailure(error, 'BlobUnknown', 'BlobDamaged', 'Unavailable')) return undefined;
    throw error;
  }
}
