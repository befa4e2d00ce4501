import type { Manifest } from '../oci/manifest.js';
import { packagingOf } from './media-types.js';

export { factsOf, type Fact, type FactSource, type Facts } from './facts.js';
export { filesOf, type ModelFile } from './files.js';
export { packagingOf, type Packaging } from './media-types.js';

/** The largest config that is read for its facts, in bytes. Real ones have a few kB; Docker's with GGUF's keys some more. */
export const maxConfigSize = 1024 * 1024;

/** Whether a manifest is a model: ModelPack, Docker model, ModelKit, Ollama, or files of weights with their titles. */
export function isModelLike(manifest: Manifest): boolean {
  return packagingOf(manifest) !== undefined;
}

/** Whether `filesOf` and `factsOf` learn more from the config blob, and it is at most `maxConfigSize`. */
export function wantsConfig(manifest: Manifest): boolean {
  const packaging = packagingOf(manifest);
  const size = manifest.config?.size ?? 0;
  return packaging !== undefined && packaging !== 'files' && size > 0 && size <= maxConfigSize;
}

/** A config blob as JSON, for `filesOf` and `factsOf`; undefined if it is none, or too large. */
export function readConfig(bytes: Uint8Array): unknown {
  if (bytes.length > maxConfigSize) return undefined;
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}
