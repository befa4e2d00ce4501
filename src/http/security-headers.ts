import type { ServerResponse } from 'node:http';

/**
 * What a browser is told that comes upon a response: what it is stands in Content-Type, nothing in it may run or be framed,
 * and nobody is told where one came from. A door for pages sets a policy of its own.
 */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'X-Content-Type-Options': 'nosniff',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'; sandbox",
  'Referrer-Policy': 'no-referrer',
};

const lines = Object.entries(SECURITY_HEADERS);

/** For a year, as browsers and lists of theirs ask; not for other hosts of the domain, of which this one knows nothing. */
export const TRANSPORT_SECURITY = 'max-age=31536000';

/** Sets them on a response, and Strict-Transport-Security where the client came by HTTPS (elsewhere it counts for nothing). */
export function setSecurityHeaders(response: ServerResponse, secure: boolean): void {
  for (const [name, value] of lines) response.setHeader(name, value);
  if (secure) response.setHeader('Strict-Transport-Security', TRANSPORT_SECURITY);
}
