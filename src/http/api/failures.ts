import type { Failure, RegistryError } from '../../errors.js';
import type { InTheWay, Issue } from '../../metadata/failures.js';
import { challengeOf } from '../authenticate.js';
import { credentialsCame } from '../credentials.js';
import type { WriteFailure } from '../error-response.js';

/** What each failure is answered at this door. */
const statuses: Record<Failure, number> = {
  // Of a name, a tag, a digest or a manifest in a body: what is wrong is in words, where it is only roughly.
  NameInvalid: 422,
  TagInvalid: 422,
  DigestInvalid: 422,
  SizeInvalid: 422,
  ManifestInvalid: 422,
  ManifestBlobUnknown: 422,
  MediaTypeUnsupported: 422,
  Invalid: 422,
  PageInvalid: 422,
  RangeInvalid: 416,
  ParameterInvalid: 400,
  ManifestTooLarge: 413,
  BlobTooLarge: 413,
  BodyTooLarge: 413,
  BodyUnsupported: 415,
  TargetTooLong: 414,
  HeadTooLarge: 431,
  NameUnknown: 404,
  BlobUnknown: 404,
  ManifestUnknown: 404,
  UploadUnknown: 404,
  RouteUnknown: 404,
  KeyUnknown: 404,
  NotFound: 404,
  Unauthorized: 401,
  Denied: 403,
  BlobReferenced: 409,
  Conflict: 409,
  ReleaseImmutable: 409,
  ReleaseDeployed: 409,
  UploadOutOfOrder: 409,
  UploadTaken: 409,
  PreconditionFailed: 412,
  MethodUnsupported: 405,
  TooManyRequests: 429,
  Unavailable: 503,
  StorageFull: 507,
  BlobDamaged: 500,
  ManifestDamaged: 500,
  ClientGone: 400,
};

/** When to come again, where nobody knows better, in seconds. */
const RETRY_SECONDS = 5;

/** Answers a failure as FastAPI would: `{"detail": …}`; undefined is an error of ours. */
export const writeFailure: WriteFailure = (ctx, error) => {
  const status = error === undefined ? 500 : statuses[error.failure];
  ctx.status = status;
  ctx.body = { detail: 'Internal Server Error' };
  if (error === undefined || status === 500) return;
  const retryAfter = error.retryAfter ?? (status === 503 || status === 429 ? RETRY_SECONDS : undefined);
  if (retryAfter !== undefined) ctx.set('Retry-After', String(retryAfter));
  if (status === 405) ctx.set('Allow', [error.detail?.allowed ?? []].flat().join(', '));
  if (status === 416) ctx.set('Content-Range', `bytes */${Number(error.detail?.size ?? 0)}`);
  if (status === 401) {
    ctx.set('WWW-Authenticate', challengeOf(ctx.req, ctx.state));
    const { sessionEnded, keyCame } = ctx.state;
    const came = keyCame || credentialsCame(ctx.req.headers);
    ctx.body = { detail: sessionEnded ? error.message : came ? 'Invalid API key' : 'Missing API key' };
  } else if (status === 409) ctx.body = { detail: error.message, conflicts: conflictsOf(error) };
  else if (status === 422) ctx.body = { detail: issuesOf(error) };
  else ctx.body = { detail: error.message };
};

function issuesOf({ detail, message }: RegistryError): readonly Issue[] {
  const issues = detail?.issues as readonly Issue[] | undefined;
  const loc = typeof detail?.parameter === 'string' ? ['query', detail.parameter] : ['body'];
  return issues ?? [{ loc, msg: message, type: 'value_error' }];
}

function conflictsOf({ detail }: RegistryError): readonly InTheWay[] {
  return (detail?.conflicts as readonly InTheWay[] | undefined) ?? [];
}
