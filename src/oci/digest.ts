import { createHash, type Hash } from 'node:crypto';
import { RegistryError } from '../errors.js';
import { quote } from './quote.js';

/** The registered algorithms (image-spec descriptor.md, "Registered Algorithms") that this registry computes. */
export type DigestAlgorithm = 'sha256' | 'sha512';

/** The content address `<algorithm>:<lower-case hex>`, known to be well formed. */
export type Digest = string & { readonly __brand: 'Digest' };

const hexLengths: ReadonlyMap<string, number> = new Map([
  ['sha256', 64],
  ['sha512', 128],
] satisfies [DigestAlgorithm, number][]);

const supported = [...hexLengths.keys()].join(', ');

function isAlgorithm(text: string): text is DigestAlgorithm {
  return hexLengths.has(text);
}

/**
 * Reads the name of a digest algorithm, such as the `digest-algorithm` parameter (distribution-spec, end-4c).
 * @throws RegistryError DigestInvalid, listing what is supported
 */
export function parseAlgorithm(text: string): DigestAlgorithm {
  if (!isAlgorithm(text)) {
    throw new RegistryError(
      'DigestInvalid',
      `digest algorithm ${quote(text)} is not supported; use one of ${supported}`,
    );
  }
  return text;
}

/**
 * Reads a digest (image-spec descriptor.md, "Digests"), strictly: a second spelling would be a second address of the
 * same bytes, so upper-case hex is refused and not folded.
 * @throws RegistryError DigestInvalid, naming what is wrong
 */
export function parseDigest(text: string): Digest {
  const colon = text.indexOf(':');
  if (colon < 0) {
    throw new RegistryError('DigestInvalid', `digest ${quote(text)} has no colon; expected <algorithm>:<hex>`);
  }
  const algorithm = parseAlgorithm(text.slice(0, colon));
  const hex = text.slice(colon + 1);
  const length = hexLengths.get(algorithm);
  if (hex.length !== length) {
    throw new RegistryError(
      'DigestInvalid',
      `digest ${quote(text)} has ${hex.length} characters after the colon; ${algorithm} has ${length}`,
    );
  }
  if (!/^[0-9a-f]+$/.test(hex)) {
    throw new RegistryError('DigestInvalid', `digest ${quote(text)} is not lower-case hexadecimal`);
  }
  return text as Digest;
}

/** The algorithm of a digest. */
export function algorithmOf(digest: Digest): DigestAlgorithm {
  return digest.slice(0, digest.indexOf(':')) as DigestAlgorithm;
}

/** The hexadecimal part of a digest, lower case. */
export function hexOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/** The digest of bytes that are all in memory, such as a manifest. */
export function digestOf(algorithm: DigestAlgorithm, bytes: Uint8Array): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest;
}

/** The digest of bytes as they pass. It can be asked at any point, and the run goes on. */
export class RunningDigest {
  readonly algorithm: DigestAlgorithm;
  readonly #hash: Hash;
  #size: number;

  constructor(algorithm: DigestAlgorithm, origin?: { hash: Hash; size: number }) {
    this.algorithm = algorithm;
    this.#hash = origin?.hash ?? createHash(algorithm);
    this.#size = origin?.size ?? 0;
  }

  /** How many bytes have passed. */
  get size(): number {
    return this.#size;
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#size += bytes.length;
  }

  /** The digest of what has passed so far. Costs nothing that grows with `size`: a copy of the running hash is finished. */
  digest(): Digest {
    return `${this.algorithm}:${this.#hash.copy().digest('hex')}` as Digest;
  }

  /** A second run that starts where this one stands; from here on they know nothing of each other. */
  copy(): RunningDigest {
    return new RunningDigest(this.algorithm, { hash: this.#hash.copy(), size: this.#size });
  }
}
