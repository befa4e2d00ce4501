import { isFailure, RegistryError } from '../errors.js';
import { type Digest, parseDigest } from '../oci/digest.js';

/** One fault of a request: where it is, in words, and its kind. */
export interface Issue {
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  readonly type: string;
}

/** What is in the way of a change. */
export type InTheWay = {
  readonly type: 'model' | 'release' | 'deployment' | 'artifact' | 'alias';
  readonly id?: string;
} & Readonly<Record<string, unknown>>;

/** Nothing there, or nothing that the caller may read. */
export function notFound(what: string): RegistryError {
  return new RegistryError('NotFound', `${what} not found`);
}

export function conflict(message: string, conflicts: readonly InTheWay[] = []): RegistryError {
  return new RegistryError('Conflict', message, { detail: { conflicts } });
}

/** A request whose fields have the right shape and still don't fit. */
export function invalid(...issues: Issue[]): RegistryError {
  return new RegistryError('Invalid', issues.map((issue) => issue.msg).join('; '), { detail: { issues } });
}

/** A fault of one field of the body. */
export function invalidField(field: string, msg: string, type = 'value_error'): RegistryError {
  return invalid({ loc: ['body', field], msg, type });
}

/** What these checks find wrong, all of it at once. Other failures are thrown. */
export async function faultsOf(...checks: readonly (() => unknown)[]): Promise<Issue[]> {
  const issues: Issue[] = [];
  for (const check of checks) {
    try {
      await check();
    } catch (error) {
      if (!isFailure(error, 'Invalid')) throw error;
      issues.push(...((error.detail?.issues ?? []) as readonly Issue[]));
    }
  }
  return issues;
}

/** The body's field `digest`, read. @throws 'Invalid' */
export function digestField(text: string): Digest {
  try {
    return parseDigest(text);
  } catch (error) {
    if (!isFailure(error)) throw error;
    throw invalidField('digest', error.message, 'string_pattern_mismatch');
  }
}
