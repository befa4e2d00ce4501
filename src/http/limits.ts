import type { Middleware } from 'koa';
import { networkOf } from '../auth/throttle.js';
import { RegistryError } from '../errors.js';
import type { Log } from '../log.js';
import type { RequestState } from './context.js';
import { hasBody } from './request-body.js';

export interface RequestLimits {
  /** Names and values of all header fields together, in bytes. */
  readonly headerMaxBytes: number;
  /** The target of a request, in bytes. */
  readonly urlMaxBytes: number;
  /** Requests a second that one address may make of this process; 0: any number. */
  readonly requestsPerAddress: number;
  /** Requests with a body that one key (or, without one, one address) may run in this process at the same time. */
  readonly uploadsPerKey: number;
}

/** More header fields than any client or proxy sends. */
const MAX_FIELDS = 256;
/** A name or an address with a port (RFC 9110 section 7.2), without what URLs would allow and no host has. */
const HOST = /^(?:[a-z0-9._~-]*|\[[0-9a-f:.]+\])(?::[0-9]{0,5})?$/i;
/** Node takes the first of several; what stands before us may have gone by the last. */
const SINGLE = new Set(['host', 'authorization']);
const WINDOW_MS = 1_000;
const DROPS_MS = 5_000;

/**
 * Looks at the head of a request before anybody reads it. The parser has limits too, above these (see server.ts).
 * @throws 'TargetTooLong', 'HeadTooLarge'; 'ParameterInvalid' for a Host that is none (it comes back in challenges), and for
 * fields that are given twice.
 */
export function limitHead({ headerMaxBytes, urlMaxBytes }: RequestLimits): Middleware<RequestState> {
  return async (ctx, next) => {
    const { url = '', rawHeaders } = ctx.req;
    if (url.length > urlMaxBytes)
      throw new RegistryError(
        'TargetTooLong',
        `the target has ${url.length} bytes; at most ${urlMaxBytes} are accepted`,
      );
    let size = 0;
    const once = new Set<string>();
    for (const [index, text] of rawHeaders.entries()) {
      size += text.length;
      const name = index % 2 === 0 ? text.toLowerCase() : '';
      if (!SINGLE.has(name)) continue;
      if (once.has(name)) throw new RegistryError('ParameterInvalid', `the header ${text} is given more than once`);
      once.add(name);
    }
    if (size > headerMaxBytes)
      throw new RegistryError('HeadTooLarge', `the header fields have more than ${headerMaxBytes} bytes`);
    if (rawHeaders.length > 2 * MAX_FIELDS)
      throw new RegistryError('HeadTooLarge', `the request has more than ${MAX_FIELDS} header fields`);
    if (!HOST.test(ctx.req.headers.host ?? ''))
      throw new RegistryError('ParameterInvalid', 'the header Host must be one host, with or without a port');
    await next();
  };
}

/**
 * Counts requests by address (IPv6: /64) in windows of a second. What is remembered is at most a second's requests.
 * @throws 'TooManyRequests'
 */
export function limitRequests({ requestsPerAddress }: RequestLimits): Middleware<RequestState> {
  const counts = new Map<string, number>();
  let windowEnd = 0;
  return async (ctx, next) => {
    if (requestsPerAddress === 0) return await next();
    const now = performance.now();
    if (now >= windowEnd) {
      counts.clear();
      windowEnd = now + WINDOW_MS;
    }
    const network = networkOf(ctx.state.client.address);
    const count = (counts.get(network) ?? 0) + 1;
    counts.set(network, count);
    if (count > requestsPerAddress) {
      const message = `more than ${requestsPerAddress} requests a second from this address`;
      throw new RegistryError('TooManyRequests', message, { retryAfter: WINDOW_MS / 1000 });
    }
    await next();
  };
}

/**
 * Bounds the requests with a body that run at the same time: a client may send as slowly as it likes, but not on any number
 * of connections.
 * @throws 'TooManyRequests'
 */
export function limitUploads({ uploadsPerKey }: RequestLimits): Middleware<RequestState> {
  const running = new Map<string, number>();
  return async (ctx, next) => {
    if (!/^(POST|PUT|PATCH)$/.test(ctx.method) || !hasBody(ctx.req)) return await next();
    const { access, client } = ctx.state;
    const { kind, id } = access.identity;
    const actor = kind === 'anonymous' ? `address ${networkOf(client.address)}` : `key ${id}`;
    const count = running.get(actor) ?? 0;
    if (count >= uploadsPerKey)
      throw new RegistryError('TooManyRequests', `${uploadsPerKey} uploads of this key run already`);
    running.set(actor, count + 1);
    try {
      await next();
    } finally {
      const left = (running.get(actor) ?? 1) - 1;
      if (left === 0) running.delete(actor);
      else running.set(actor, left);
    }
  };
}

/**
 * Says in the log that connections are closed because there are too many of them: a line for all within some seconds.
 * @returns what is to be called for each
 */
export function warnOfDrops(log: Log): () => void {
  let dropped = 0;
  return () => {
    dropped += 1;
    if (dropped > 1) return;
    const report = () => {
      log.warn({ dropped }, 'connections were closed at once: there are REGISTRY_MAX_CONNECTIONS already');
      dropped = 0;
    };
    setTimeout(report, DROPS_MS).unref();
  };
}
