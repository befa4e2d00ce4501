import { RegistryError } from '../errors.js';

/** One fault of a request: where it is, in words, and its kind. */
export interface Issue {
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  readonly type: string;
}

/** What is in the way of a change. */
export interface InTheWay {
  readonly type: 'model' | 'release' | 'deployment' | 'artifact' | 'alias';
  readonly id?: string;
  readonly [fact: string]: unknown;
}

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
