import type { IncomingMessage } from 'node:http';
import type { Client } from './client.js';
import { credentialsCame } from './credentials.js';

const NAME = 'weighhouse_session';
/** Where a browser signs in and out. */
export const SESSION_PATH = '/api/v1/session';
/** The doors where a session counts; tokens are given for keys alone. */
const DOORS = /^\/(?:api\/v1|v2(?!\/token\/?$))(?:\/|$)/;
const UNSAFE = /^(?!(?:GET|HEAD|OPTIONS)$)/;

/** Whether a method may change something (RFC 9110 section 9.2.1). */
export function isUnsafe(method: string): boolean {
  return UNSAFE.test(method);
}

/**
 * The name of the cookie. With `__Host-` browsers take it from this host alone, over HTTPS, for all paths, so that nobody else
 * of the domain can plant one; over plain HTTP they take no such name.
 */
function nameOf({ secure }: Client): string {
  return secure ? `__Host-${NAME}` : NAME;
}

/** What the session's cookie holds; undefined: there is none. Of several, which can't be told apart, it is empty. */
export function readSessionCookie({ headers }: IncomingMessage, client: Client): string | undefined {
  const begin = `${nameOf(client)}=`;
  const [value, ...others] = (headers.cookie ?? '')
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(begin))
    .map((pair) => pair.slice(begin.length));
  return others.some((other) => other !== value) ? '' : value;
}

/**
 * The cookie by which a request is let in, if it is by one: a header with a key or a token comes first, and what the browser
 * sends along for a page of another site is not looked at. That page may read nothing by it, and change nothing (`isForeign`).
 * @param path as it was sent
 */
export function sessionCookieOf(request: IncomingMessage, path: string, client: Client): string | undefined {
  if (credentialsCame(request.headers) || !DOORS.test(path)) return undefined;
  if (path === SESSION_PATH && request.method === 'POST') return undefined;
  if (!isUnsafe(request.method ?? '') && isOfOtherOrigin(request, client)) return undefined;
  return readSessionCookie(request, client);
}

/** Whether a request comes from a page of another origin, by what browsers say: neither header can be set by pages. */
export function isForeign(request: IncomingMessage, client: Client): boolean {
  const site = request.headers['sec-fetch-site'];
  return (site !== undefined && site !== 'same-origin') || isOfOtherOrigin(request, client);
}

/** Of the scheme a proxy may not have told; a page over plain HTTP gets no cookie that is for HTTPS. */
function isOfOtherOrigin({ headers: { origin } }: IncomingMessage, client: Client): boolean {
  if (origin === undefined) return false;
  const host = hostOf(origin);
  return host === undefined || host !== hostOf(client.origin);
}

/** Not every Host that a client sends makes a URL. */
function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

/** The Set-Cookie of a session (RFC 6265bis). @param seconds until its end; 0 takes it away */
export function setCookieOf(client: Client, value: string, seconds: number): string {
  const flags = `Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict`;
  return `${nameOf(client)}=${value}; ${flags}${client.secure ? '; Secure' : ''}`;
}
