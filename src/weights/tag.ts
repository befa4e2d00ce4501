import { type Tag, parseTag } from '../oci/name.js';
import { labelEndingAt } from './quantization.js';

/**
 * What a tag is in the repository of a model: a release, an alias such as `latest`, or `other`, which is neither (the
 * tags by which cosign and the referrers fallback attach things to a digest).
 */
export type TagMeaning =
  | {
      readonly kind: 'release';
      /** As written; empty where the tag is a label alone. */
      readonly version: string;
      /** As written; null where the tag names none. */
      readonly quantization: string | null;
    }
  | { readonly kind: 'alias' }
  | { readonly kind: 'other' };

/** Between version and quantization; the first is what we write. */
const separators = ['-', '_', '.'] as const;

/** Both algorithms have 64 digits there: the referrers fallback cuts longer ones (distribution-spec, "Referrers Tag Schema"). */
const attached = /^sha(?:256|512)-[0-9a-f]{64}/i;

/**
 * Reads a tag. The quantization is the longest known label at its end, after a separator or alone; the version is the
 * rest. It is a release if it has a label or begins as versions do, with a digit or `v` and a digit. Tags that differ in
 * case alone mean the same. A text that is no tag is `other`.
 */
export function readTag(tag: Tag | string): TagMeaning {
  if (!isTag(tag) || attached.test(tag)) return { kind: 'other' };
  const label = labelEndingAt(tag, tag.length);
  if (label !== undefined) {
    return { kind: 'release', version: tag.slice(0, -label.length - 1), quantization: label };
  }
  return /^v?\d/i.test(tag) ? { kind: 'release', version: tag, quantization: null } : { kind: 'alias' };
}

/**
 * The tag of a release, `<version>-<quantization>` or one of them alone. Another separator is taken where this one would
 * be read otherwise (version `v1-bnb`, quantization `4bit`). Whether it means what it was made of, or is a tag at all,
 * is for the caller to ask of `readTag`: nothing is a tag of version `latest` without a quantization.
 */
export function tagOf(version: string, quantization: string | null): string {
  const candidates = tagsOf(version, quantization);
  return candidates.find((tag) => means(tag, version, quantization)) ?? candidates[0] ?? '';
}

/** All tags, in lower case, that mean this release; empty if there is none. */
export function spellings(version: string, quantization: string | null): string[] {
  return tagsOf(version.toLowerCase(), quantization?.toLowerCase() ?? null).filter((tag) =>
    means(tag, version, quantization),
  );
}

function tagsOf(version: string, quantization: string | null): string[] {
  if (quantization === null) return [version];
  const joined = separators.map((separator) => `${version}${separator}${quantization}`);
  return version === '' ? [quantization, ...joined] : joined;
}

function means(tag: string, version: string, quantization: string | null): boolean {
  const meaning = readTag(tag);
  return (
    meaning.kind === 'release' &&
    meaning.version.toLowerCase() === version.toLowerCase() &&
    meaning.quantization?.toLowerCase() === quantization?.toLowerCase()
  );
}

function isTag(text: string): boolean {
  try {
    parseTag(text);
    return true;
  } catch {
    return false;
  }
}
