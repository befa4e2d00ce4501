import { isApiTarget } from '../../src/http/doors.js';
import { ADMIN_KEY } from '../support/server.js';
import { fieldOf, type WireResponse } from './responses.js';

/** The codes of the specification, Docker's two for what it doesn't know, and no others. */
const CODES = new Set(
  `BLOB_UNKNOWN BLOB_UPLOAD_INVALID BLOB_UPLOAD_UNKNOWN DIGEST_INVALID MANIFEST_BLOB_UNKNOWN MANIFEST_INVALID MANIFEST_UNKNOWN
   NAME_INVALID NAME_UNKNOWN SIZE_INVALID UNAUTHORIZED DENIED UNSUPPORTED TOOMANYREQUESTS`.split(/\s+/),
);

/** What nobody outside may see: where the program lies, what it stands on, what it asks PostgreSQL, its secrets. */
const LEAKS =
  /node_modules|\bnode:internal|\.[jt]s:\d+|^\s+at .+:\d+|\/(?:tmp|work|home|root|var|proc)\/|\bdist\/|\b(?:ENOENT|EACCES|EISDIR|ENOTDIR|ERR_[A-Z_]+)\b|\b(?:TypeError|RangeError|SyntaxError|ReferenceError)\b|\b(?:insert into|update uploads|select .+ from|delete from|relation ".+"|violates|constraint)\b|sequelize|postgres/im;

/** What is wrong with an answer, in words; undefined if nothing is. */
export function faultOf(response: WireResponse, isHead: boolean, target: string): string | undefined {
  const { status, fields, body } = response;
  if (status >= 500 && status !== 501) return `a ${status}`;
  for (const line of fields) {
    if (!/^[A-Za-z0-9-]+: [\x20-\x7e]*$/.test(line)) return `a header that is none: ${JSON.stringify(line)}`;
    if (/^injected/i.test(line)) return `a header of the client's: ${line}`;
  }
  if (fieldOf(fields, 'x-content-type-options') !== 'nosniff') return 'no X-Content-Type-Options';
  const head = fields.join('\n');
  if (LEAKS.test(head) || head.includes(ADMIN_KEY)) return `a leak in the head: ${LEAKS.exec(head)?.[0]}`;
  if (status === 429 || status === 503) if (!fieldOf(fields, 'retry-after')) return `a ${status} without Retry-After`;
  if (status < 400 || isHead) return undefined;
  const text = body.toString('utf8');
  if (LEAKS.test(text) || text.includes(ADMIN_KEY)) return `a leak in the body: ${LEAKS.exec(text)?.[0]}`;
  // A request that could not be read has no target for certain, and no id.
  const isRead = fieldOf(fields, 'x-request-id') !== undefined;
  return errorFault(text, fieldOf(fields, 'content-type'), isRead ? target : undefined);
}

/** The metadata API answers errors in its own form, every other door in that of the specification. */
function errorFault(text: string, type: string | undefined, target: string | undefined): string | undefined {
  if (!type?.startsWith('application/json')) return `an error of the type ${type}`;
  let document: { detail?: unknown; errors?: { code?: unknown; message?: unknown }[] };
  try {
    document = JSON.parse(text) as typeof document;
  } catch {
    return `an error that is no JSON: ${text.slice(0, 100)}`;
  }
  if (target === undefined ? document.errors === undefined : isApiTarget(target)) {
    const { detail } = document;
    const fits = Array.isArray(detail) ? detail.length > 0 : typeof detail === 'string' && detail !== '';
    return fits ? undefined : `an error without a detail: ${target?.slice(0, 100)}`;
  }
  const [error] = document.errors ?? [];
  if (!error) return `an error without errors: ${target?.slice(0, 100)}`;
  if (typeof error.code !== 'string' || !CODES.has(error.code)) return `the code ${String(error.code)}`;
  return typeof error.message === 'string' && error.message !== '' ? undefined : 'an error without a message';
}
