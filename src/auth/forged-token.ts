import { decodeProtectedHeader, errors } from 'jose';
import { RegistryError } from '../errors.js';

/** A token that whoever it names as its issuer can not have signed: an attempt like a wrong key, and counted like one. */
export class ForgedToken extends RegistryError {
  /** @param claimed whose it says it is: no id of a key, so that nobody's attempts are counted with those of a key */
  constructor(
    readonly claimed: `token:${string}`,
    cause?: unknown,
  ) {
    super('Unauthorized', 'this token is not valid', { cause });
  }
}

/**
 * Whether an error of jose's says that a token is forged. One of a key that is not known is not: it may have been signed
 * with one that is gone, or is new, and nothing of it was tried.
 */
export function saysForged(error: unknown, token: string): boolean {
  if (error instanceof errors.JWSInvalid) return true;
  // An algorithm with a shared secret, or none; another key pair's may be an honest issuer's.
  if (error instanceof errors.JOSEAlgNotAllowed) return /^(none$|HS)/.test(headerOf(token).alg ?? 'none');
  // Without the name of its key it was tried with the one that there is, which another may have followed since.
  return error instanceof errors.JWSSignatureVerificationFailed && headerOf(token).kid !== undefined;
}

function headerOf(token: string): { alg?: string; kid?: string } {
  try {
    return decodeProtectedHeader(token);
  } catch {
    return {};
  }
}
