import { parseDigest } from '../../oci/digest.js';
import { ifNoneMatch } from '../../oci/range.js';
import type { ReadObserver } from '../../metadata/audit-reads.js';
import type { Blob, Blobs } from '../../registry/blobs.js';
import { actorOf, type Context } from '../context.js';
import { type RedirectOptions, redirected } from '../redirect.js';
import { blobSender, type BlobSenderOptions } from '../send-blob.js';
import { isOllama, locate } from './location.js';
import { part } from './parameters.js';

export interface BlobRoutesOptions extends BlobSenderOptions {
  readonly redirect: RedirectOptions;
  readonly blobs: Blobs;
  readonly reads: ReadObserver;
}

const OCTETS = 'application/octet-stream';

/** The handlers of blobs (distribution-spec, "Pulling blobs", "Deleting Blobs"; ranges as RFC 9110 section 14). */
export function blobHandlers({ blobs, reads, redirect, ...options }: BlobRoutesOptions) {
  const send = blobSender(options);

  /** HEAD (end-2): from the database alone. */
  async function head(ctx: Context): Promise<void> {
    const blob = await blobs.get(...pulled(ctx));
    describe(ctx, blob);
    if (ifNoneMatch(ctx.req.headers['if-none-match'], `"${blob.digest}"`)) {
      ctx.status = 304;
      return;
    }
    ctx.status = 200;
    ctx.set('Content-Length', String(blob.size));
  }

  /** GET (end-2). */
  async function get(ctx: Context): Promise<void> {
    const blob = await blobs.getOpenable(...pulled(ctx));
    const etag = `"${blob.digest}"`;
    describe(ctx, blob);
    // It asks once where the bytes are, and reads ranges from there.
    if (isOllama(ctx)) locate(ctx, `/v2/${ctx.state.repository}/blobs/${blob.digest}`);
    if (ifNoneMatch(ctx.req.headers['if-none-match'], etag)) {
      ctx.status = 304;
      return;
    }
    if (!isOllama(ctx) && (await redirected(ctx, blob, redirect))) {
      note(ctx, blob, { redirected: true });
      return;
    }
    await send(ctx, blob, {
      type: OCTETS,
      note: (told) => note(ctx, blob, told),
      unsatisfiable: (message) => ({ errors: [{ code: 'SIZE_INVALID', message }] }),
    });
  }

  /** For the record: the answer has begun, whether or not the client takes all of it. */
  function note(ctx: Context, { digest, size }: Blob, part: Readonly<Record<string, unknown>>): void {
    const { repository } = ctx.state;
    reads.note(repository, () => ({ actor: actorOf(ctx), what: 'blob', digest, details: { size, ...part } }));
  }

  /** DELETE (end-10). */
  async function remove(ctx: Context): Promise<void> {
    const { repository } = ctx.state;
    await blobs.remove(repository, parseDigest(part(ctx, 'digest')), actorOf(ctx));
    ctx.body = null;
    ctx.status = 202;
    ctx.set('Content-Length', '0');
  }

  return { head, get, remove };
}

function pulled(ctx: Context) {
  const { repository } = ctx.state;
  return [repository, parseDigest(part(ctx, 'digest'))] as const;
}

/** What is true of a blob whatever part of it is sent. Its bytes never change, so it may be kept for ever. */
function describe(ctx: Context, blob: Blob): void {
  ctx.set('Content-Type', OCTETS);
  ctx.set('Docker-Content-Digest', blob.digest);
  ctx.set('ETag', `"${blob.digest}"`);
  ctx.set('Accept-Ranges', 'bytes');
  ctx.set('Cache-Control', 'private, max-age=31536000, immutable');
}
