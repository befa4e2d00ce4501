/**
 * The closed list of failures. Rooms throw them; each HTTP door maps them to its own responses in one table.
 * Nothing here knows HTTP.
 */
export type Failure =
  // What the client sent does not parse or does not fit.
  | 'NameInvalid'
  | 'TagInvalid'
  | 'DigestInvalid'
  | 'SizeInvalid'
  | 'RangeInvalid'
  | 'ParameterInvalid'
  | 'ManifestInvalid'
  | 'ManifestTooLarge'
  | 'BlobTooLarge'
  | 'MediaTypeUnsupported'
  | 'TargetTooLong'
  | 'HeadTooLarge'
  // Of the metadata API: `detail.issues` lists every fault of a request, as {loc, msg, type}.
  | 'Invalid'
  // `detail.parameter` says which of a page's parameters it is.
  | 'PageInvalid'
  | 'BodyTooLarge'
  | 'BodyUnsupported'
  // What it names is not there.
  | 'NameUnknown'
  | 'BlobUnknown'
  | 'ManifestUnknown'
  | 'ManifestBlobUnknown'
  | 'UploadUnknown'
  | 'RouteUnknown'
  | 'KeyUnknown'
  | 'NotFound'
  // It may not, or not like this.
  | 'Unauthorized'
  | 'Denied'
  | 'BlobReferenced'
  // `detail.conflicts` lists what is in the way, as {type, id, …}.
  | 'Conflict'
  | 'ReleaseImmutable'
  | 'ReleaseDeployed'
  | 'PreconditionFailed'
  | 'MethodUnsupported'
  | 'TooManyRequests'
  // Another request got there first.
  | 'UploadOutOfOrder'
  | 'UploadTaken'
  // Not the client's fault.
  | 'Unavailable'
  | 'StorageFull'
  | 'BlobDamaged'
  | 'ManifestDamaged'
  | 'ClientGone';

export interface RegistryErrorOptions {
  cause?: unknown;
  /** Facts for the `detail` of the response: never a secret, never a path. */
  detail?: Readonly<Record<string, unknown>>;
  /** Seconds after which the same request is worth repeating. */
  retryAfter?: number;
}

/** The one error class of the registry: what failed, in words for the client, and why, for the log. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly detail: Readonly<Record<string, unknown>> | undefined;
  readonly retryAfter: number | undefined;

  constructor(
    readonly failure: Failure,
    message: string,
    options: RegistryErrorOptions = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.detail = options.detail;
    this.retryAfter = options.retryAfter;
  }
}

/** Whether `error` is a RegistryError, of one of `failures` where they are given. */
export function isFailure(error: unknown, ...failures: Failure[]): error is RegistryError {
  return error instanceof RegistryError && (failures.length === 0 || failures.includes(error.failure));
}
