import type { Digest } from './digest.js';

/** What cosign writes behind the name of the subject. */
const SUFFIXES = ['.sig', '.att', '.sbom'] as const;

/** Digits of a digest in such a tag: the specification cuts longer ones. */
const DIGITS = 64;

/** Tags by which something is attached to a manifest without its naming a `subject`. */
export interface AttachedTags {
  /** Of an index of what refers to it (distribution-spec, "Referrers Tag Schema"). */
  readonly index: string;
  /** Of signatures, attestations and SBOMs, as cosign names them. */
  readonly others: readonly string[];
}

export function attachedTags(subject: Digest): AttachedTags {
  const colon = subject.indexOf(':');
  const index = `${subject.slice(0, colon)}-${subject.slice(colon + 1, colon + 1 + DIGITS)}`;
  return { index, others: SUFFIXES.map((suffix) => `${index}${suffix}`) };
}

/** Such tags, as a regular expression of PostgreSQL; before the suffix they have ATTACHED_LENGTH characters. */
export const ATTACHED_TAG = '^sha(256|512)-[0-9a-f]{64}([.](sig|att|sbom))?$';

export const ATTACHED_LENGTH = 'sha256-'.length + DIGITS;
