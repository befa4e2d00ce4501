import { RegistryError } from '../../errors.js';

/** What an answer of S3, or its absence, means to the store. */
export type S3Answer =
  /** No such object or upload. */
  | 'missing'
  /** Something stands there already, and was to be made exclusively. */
  | 'exists'
  /** The object ends before the range. */
  | 'range'
  /** The upload has other parts than those that were named. */
  | 'parts'
  | 'full'
  /** The same request may fare better later: the gateway is busy, cut off, or half blind. */
  | 'again'
  /** It never will. */
  | 'refused';

/** A request to S3 that failed, in words for the log. Unlike the SDK's error it carries no headers and no credentials. */
export class S3Error extends Error {
  override readonly name = 'S3Error';
  constructor(
    readonly operation: string,
    readonly answer: S3Answer,
    readonly code: string,
    readonly status: number | undefined,
    message: string,
  ) {
    super(`${operation}: ${status ?? 'no answer'} ${code}${message && message !== code ? `: ${message}` : ''}`);
  }
}

const FULL = ['QuotaExceeded', 'XMinioStorageFull', 'InsufficientStorage'];
const MISSING = ['NoSuchKey', 'NoSuchUpload', 'NotFound'];
/** Codes that ask for the same request again under statuses that do not; a digest that differs was damaged on its way. */
const AGAIN = ['RequestTimeout', 'BadDigest', 'SlowDown', 'ConditionalRequestConflict', 'OperationAborted'];

/**
 * What RGW says while an OSD is down can't be taken at its word: 408, and 403 InvalidAccessKeyId when the user's record
 * can't be read. So no 403 is final.
 */
function answerOf(code: string, status: number | undefined): S3Answer {
  if (FULL.includes(code) || status === 507) return 'full';
  if (status === undefined || AGAIN.includes(code)) return 'again';
  if (MISSING.includes(code)) return 'missing';
  if (code === 'InvalidPart') return 'parts';
  if (status === 412) return 'exists';
  if (status === 416) return 'range';
  return status === 403 || status === 408 || status === 429 || status >= 500 ? 'again' : 'refused';
}

/** The error of the SDK or of the network in our words. */
export function s3Error(operation: string, error: unknown): S3Error {
  if (error instanceof S3Error) return error;
  const { name, code, Code, message, $metadata } = error as Error & {
    code?: string;
    Code?: string;
    $metadata?: { httpStatusCode?: number };
  };
  const status = $metadata?.httpStatusCode;
  const said = status === undefined ? (code ?? name) : (Code ?? name);
  return new S3Error(operation, answerOf(said, status), said, status, message);
}

/** The failure that a request of a client ends with. */
export function storageFailure(error: unknown): RegistryError {
  if (error instanceof RegistryError) return error;
  if (error instanceof S3Error && error.answer === 'full')
    return new RegistryError('StorageFull', 'the storage has no room left', { cause: error, retryAfter: 60 });
  const retryAfter = error instanceof S3Error && error.status === 503 ? 10 : 5;
  return new RegistryError('Unavailable', 'the storage failed', { cause: error, retryAfter });
}

/** Whether `error` is such an answer of S3. */
export function isAnswer(error: unknown, ...answers: S3Answer[]): error is S3Error {
  return error instanceof S3Error && answers.includes(error.answer);
}
