import { RegistryError } from '../errors.js';
import { type Digest, parseDigest } from './digest.js';
import { quote } from './quote.js';

/** `<name>` of the distribution specification, known to be well formed: the path of a repository. */
export type RepositoryName = string & { readonly __brand: 'RepositoryName' };

/** A tag, known to be well formed. Tags that differ in case are different tags. */
export type Tag = string & { readonly __brand: 'Tag' };

/** `<tag-or-digest>` of the distribution specification; `'tag' in reference` tells which. */
export type Reference = { readonly tag: Tag } | { readonly digest: Digest };

/** Longest repository name, in characters (distribution-spec, "Pulling manifests", implementers note). */
export const maxNameLength = 255;

// The specification's expression; "_" and "__" are one alternative, so that no input has two ways to match.
const component = '[a-z0-9]+(?:(?:\\.|__?|-+)[a-z0-9]+)*';
const namePattern = new RegExp(`^${component}(?:/${component})*$`);
const tagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;

export function isRepositoryName(text: string): text is RepositoryName {
  return text.length <= maxNameLength && namePattern.test(text);
}

/**
 * Reads a repository name (distribution-spec, "Pulling manifests").
 * @throws RegistryError NameInvalid
 */
export function parseRepositoryName(text: string): RepositoryName {
  if (isRepositoryName(text)) return text;
  if (text.length > maxNameLength) {
    throw new RegistryError(
      'NameInvalid',
      `repository name has ${text.length} characters; at most ${maxNameLength} are accepted`,
    );
  }
  throw new RegistryError(
    'NameInvalid',
    `repository name ${quote(text)} is not lower-case letters and digits, separated by single "." "_" "/", "__" or "-"`,
  );
}

/**
 * Reads a tag (distribution-spec, "Pulling manifests": 1 to 128 characters).
 * @throws RegistryError TagInvalid
 */
export function parseTag(text: string): Tag {
  if (!tagPattern.test(text)) {
    throw new RegistryError(
      'TagInvalid',
      `tag ${quote(text)} is not 1 to 128 of letters, digits, "_", "." and "-", beginning with none of the last two`,
    );
  }
  return text as Tag;
}

/**
 * Reads a tag or digest. No tag has a colon, so whatever has one is meant as a digest.
 * @throws RegistryError TagInvalid or DigestInvalid
 */
export function parseReference(text: string): Reference {
  return text.includes(':') ? { digest: parseDigest(text) } : { tag: parseTag(text) };
}
