import type { IncomingHttpHeaders } from 'node:http';
import type { Credentials } from '../auth/authenticator.js';
import { RegistryError } from '../errors.js';

/** Whether a request brings anything to show who it is, good or not. */
export function credentialsCame(headers: IncomingHttpHeaders): boolean {
  return headers.authorization !== undefined || headers['x-api-key'] !== undefined;
}

/**
 * What a request brings to show who it is: Basic (RFC 7617: any user name, the key as password), Bearer (RFC 6750), or
 * X-API-Key; the Authorization header comes first.
 * @throws 'Unauthorized' if there is something that can't be read.
 */
export function credentialsOf(headers: IncomingHttpHeaders): Credentials {
  const { authorization } = headers;
  const key = headers['x-api-key'];
  if (authorization === undefined) return typeof key === 'string' ? secret(key) : { kind: 'none' };
  const [, scheme = '', value = ''] = /^([A-Za-z]+) +(\S+)$/.exec(authorization) ?? [];
  if (scheme.toLowerCase() === 'bearer') return { kind: 'bearer', text: value };
  if (scheme.toLowerCase() !== 'basic' || !/^[A-Za-z0-9+/_-]+=*$/.test(value)) throw unreadable();
  const decoded = Buffer.from(value, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon < 0) throw unreadable();
  return secret(decoded.slice(colon + 1));
}

function secret(text: string): Credentials {
  if (text === '') throw unreadable();
  return { kind: 'secret', text };
}

function unreadable(): RegistryError {
  return new RegistryError('Unauthorized', 'a key is needed: any user name, the key as password');
}
