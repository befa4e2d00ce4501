import type { Failure } from '../../errors.js';
import { challengeOf } from '../authenticate.js';
import type { WriteFailure } from '../error-response.js';

/** The codes of the specification ("Error Codes"). For 5xx, of which it says nothing, Docker's UNAVAILABLE and UNKNOWN. */
type Code =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DIGEST_INVALID'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'SIZE_INVALID'
  | 'UNAUTHORIZED'
  | 'DENIED'
  | 'UNSUPPORTED'
  | 'TOOMANYREQUESTS'
  | 'UNAVAILABLE'
  | 'UNKNOWN';

const responses: Record<Failure, readonly [status: number, code: Code]> = {
  NameInvalid: [400, 'NAME_INVALID'],
  TagInvalid: [400, 'MANIFEST_INVALID'],
  DigestInvalid: [400, 'DIGEST_INVALID'],
  SizeInvalid: [400, 'SIZE_INVALID'],
  RangeInvalid: [416, 'BLOB_UPLOAD_INVALID'],
  ParameterInvalid: [400, 'UNSUPPORTED'],
  ManifestInvalid: [400, 'MANIFEST_INVALID'],
  ManifestTooLarge: [413, 'SIZE_INVALID'],
  BlobTooLarge: [413, 'SIZE_INVALID'],
  MediaTypeUnsupported: [415, 'MANIFEST_INVALID'],
  TargetTooLong: [414, 'UNSUPPORTED'],
  HeadTooLarge: [431, 'UNSUPPORTED'],
  NameUnknown: [404, 'NAME_UNKNOWN'],
  BlobUnknown: [404, 'BLOB_UNKNOWN'],
  ManifestUnknown: [404, 'MANIFEST_UNKNOWN'],
  ManifestBlobUnknown: [400, 'MANIFEST_BLOB_UNKNOWN'],
  UploadUnknown: [404, 'BLOB_UPLOAD_UNKNOWN'],
  RouteUnknown: [404, 'UNSUPPORTED'],
  KeyUnknown: [404, 'UNSUPPORTED'],
  NotFound: [404, 'UNSUPPORTED'],
  Invalid: [400, 'UNSUPPORTED'],
  PageInvalid: [400, 'UNSUPPORTED'],
  BodyTooLarge: [413, 'SIZE_INVALID'],
  BodyUnsupported: [415, 'UNSUPPORTED'],
  Unauthorized: [401, 'UNAUTHORIZED'],
  Denied: [403, 'DENIED'],
  BlobReferenced: [403, 'DENIED'],
  Conflict: [409, 'DENIED'],
  ReleaseImmutable: [403, 'DENIED'],
  ReleaseDeployed: [403, 'DENIED'],
  PreconditionFailed: [412, 'UNSUPPORTED'],
  MethodUnsupported: [405, 'UNSUPPORTED'],
  TooManyRequests: [429, 'TOOMANYREQUESTS'],
  UploadOutOfOrder: [416, 'BLOB_UPLOAD_INVALID'],
  UploadTaken: [409, 'BLOB_UPLOAD_INVALID'],
  Unavailable: [503, 'UNAVAILABLE'],
  StorageFull: [507, 'UNAVAILABLE'],
  BlobDamaged: [500, 'UNKNOWN'],
  ManifestDamaged: [500, 'UNKNOWN'],
  ClientGone: [400, 'UNKNOWN'],
};

/** When to come again, where nobody knows better, in seconds. */
const RETRY_SECONDS = 5;

/** Answers a failure as the specification wants it. */
export const writeFailure: WriteFailure = (ctx, error) => {
  if (error === undefined) {
    ctx.status = 500;
    ctx.body = { errors: [{ code: 'UNKNOWN', message: 'an error inside the registry; its log has the details' }] };
    return;
  }
  const [status, code] = responses[error.failure];
  ctx.status = status;
  ctx.set('Docker-Distribution-API-Version', 'registry/2.0');
  if (error.failure === 'Unauthorized') ctx.set('WWW-Authenticate', challengeOf(ctx.req, ctx.state));
  const retryAfter = error.retryAfter ?? (status === 503 || status === 429 ? RETRY_SECONDS : undefined);
  if (retryAfter !== undefined) ctx.set('Retry-After', String(retryAfter));
  if (error.failure === 'MethodUnsupported' && Array.isArray(error.detail?.allowed))
    ctx.set('Allow', error.detail.allowed.join(', '));
  if (error.failure === 'UploadOutOfOrder') {
    const offset = Number(error.detail?.offset);
    ctx.set('Location', ctx.path);
    ctx.set('Range', uploadRange(offset));
    ctx.set('Upload-Offset', String(offset));
  }
  ctx.body = { errors: [{ code, message: error.message, ...(error.detail ? { detail: error.detail } : {}) }] };
};

/**
 * The Range header of an upload: what is there, both ends inclusive. It can't say that nothing is, and says `0-0` then, as
 * distribution does; Upload-Offset, beside it, is exact.
 */
export function uploadRange(offset: number): string {
  return `0-${Math.max(offset - 1, 0)}`;
}
