import { type BlockList, isIPv4 } from 'node:net';
import { parseRangeHeader } from '../oci/range.js';
import type { OpenableBlob } from '../registry/blobs.js';
import type { Context } from './context.js';

/** When a client is sent to the store for the bytes of a blob. */
export interface RedirectOptions {
  /** Blobs of at least so many bytes; infinite: never. */
  readonly minBytes: number;
  /** The clients that reach the store; undefined: all. */
  readonly networks: BlockList | undefined;
  /** How long the address is good, in seconds; the store looks at it when the request begins. */
  readonly lifetimeSeconds: number;
}

/** Answers a GET of a blob with the address of its bytes, where that may be. @returns whether it has. */
export async function redirected(ctx: Context, blob: OpenableBlob, options: RedirectOptions): Promise<boolean> {
  const { minBytes, networks, lifetimeSeconds } = options;
  const { client } = ctx.state;
  if (!blob.urlFor || blob.size < Math.max(minBytes, 1) || !isSimple(ctx, blob.size)) return false;
  if (networks && !networks.check(client.address, isIPv4(client.address) ? 'ipv4' : 'ipv6')) return false;
  // Clients take such a header along wherever they are sent.
  if (ctx.get('X-API-Key') !== '') return false;
  const url = await blob.urlFor(lifetimeSeconds);
  if (ctx.get('Authorization') !== '' && credentialsFollow(new URL(client.origin).hostname, url.hostname)) return false;
  for (const name of ['ETag', 'Content-Type', 'Accept-Ranges']) ctx.remove(name);
  ctx.body = null;
  ctx.status = 307;
  ctx.set('Location', url.href);
  ctx.set('Cache-Control', 'no-store');
  ctx.set('Content-Length', '0');
  return true;
}

/** The whole, or one range of it: what the store would send in another form, or hold against its own ETag, it does not get. */
function isSimple(ctx: Context, size: number): boolean {
  const range = ctx.get('Range');
  if (range === '') return true;
  if (ctx.get('If-Range') !== '') return false;
  // At most two are looked at: with more it is not simple anyway.
  const ranges = parseRangeHeader(range, size, 2);
  return Array.isArray(ranges) && ranges.length === 1;
}

/**
 * Whether a client that was given credentials for `from` brings them to `to` too, as Go's clients do for the same name and
 * those below it, whatever the port. S3 refuses a request with two credentials.
 */
export function credentialsFollow(from: string, to: string): boolean {
  const [source, target] = [from.toLowerCase(), to.toLowerCase()];
  return target === source || target.endsWith(`.${source}`);
}
