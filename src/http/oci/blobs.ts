import { randomBytes } from 'node:crypto';
import { parseDigest } from '../../oci/digest.js';
import {
  type ByteRange,
  contentRange,
  ifNoneMatch,
  ifRangeMatches,
  parseRangeHeader,
  unsatisfiedContentRange,
} from '../../oci/range.js';
import type { ReadObserver } from '../../metadata/audit-reads.js';
import type { Blob, Blobs, OpenableBlob } from '../../registry/blobs.js';
import { actorOf, type Context } from '../context.js';
import { sendBody } from '../send.js';
import { isOllama, locate } from './location.js';
import { part } from './parameters.js';

export interface BlobRoutesOptions {
  readonly blobs: Blobs;
  readonly idleMs: number;
  readonly rangesMax: number;
  /** nginx's internal location for the store's folder, or empty. */
  readonly xAccelPrefix: string;
  readonly reads: ReadObserver;
}

const OCTETS = 'application/octet-stream';

/** The handlers of blobs (distribution-spec, "Pulling blobs", "Deleting Blobs"; ranges as RFC 9110 section 14). */
export function blobHandlers({ blobs, idleMs, rangesMax, xAccelPrefix, reads }: BlobRoutesOptions) {
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
    if (xAccelPrefix !== '' && blob.wholeObject !== undefined) {
      // nginx would send what it finds: that all of it is there is seen to here.
      if (blob.size > 0) await (await blob.open({ start: blob.size - 1, end: blob.size }))[Symbol.asyncDispose]();
      // nginx reads the Range and If-Range headers itself. An empty text keeps the type, which null would take away.
      ctx.status = 200;
      ctx.body = '';
      ctx.set('X-Accel-Redirect', xAccelPrefix + blob.wholeObject);
      // How many bytes of it nginx will send is its own affair.
      note(ctx, blob, { range: ctx.get('Range').slice(0, 200) || null });
      return;
    }
    const ranges = ifRangeMatches(ctx.get('If-Range') || undefined, etag)
      ? parseRangeHeader(ctx.get('Range') || undefined, blob.size, rangesMax)
      : 'whole';
    if (ranges === 'unsatisfiable') {
      // This answer is not the blob, and is not to be kept.
      for (const name of ['ETag', 'Cache-Control', 'Docker-Content-Digest', 'Content-Type']) ctx.remove(name);
      ctx.status = 416;
      ctx.set('Content-Range', unsatisfiedContentRange(blob.size));
      ctx.body = {
        errors: [{ code: 'SIZE_INVALID', message: `no byte of this range is in the blob, which has ${blob.size}` }],
      };
      return;
    }
    if (ranges === 'whole') await sendOne(ctx, blob, 200, { start: 0, end: blob.size });
    else if (ranges.length === 1 && ranges[0]) {
      ctx.set('Content-Range', contentRange(ranges[0], blob.size));
      await sendOne(ctx, blob, 206, ranges[0]);
    } else await sendSeveral(ctx, blob, ranges);
  }

  async function sendOne(ctx: Context, blob: OpenableBlob, status: number, range: ByteRange): Promise<void> {
    const bytes = await blob.open(range);
    begin(ctx, status, range.end - range.start);
    note(ctx, blob, { start: range.start, bytes: range.end - range.start });
    try {
      await sendBody(ctx.req, ctx.res, bytes, idleMs);
    } finally {
      await bytes[Symbol.asyncDispose]();
    }
  }

  /** multipart/byteranges (RFC 9110 section 14.6). */
  async function sendSeveral(ctx: Context, blob: OpenableBlob, ranges: readonly ByteRange[]): Promise<void> {
    const boundary = randomBytes(16).toString('hex');
    const heads = ranges.map((range) =>
      Buffer.from(
        `\r\n--${boundary}\r\nContent-Type: ${OCTETS}\r\nContent-Range: ${contentRange(range, blob.size)}\r\n\r\n`,
      ),
    );
    const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
    const length = ranges.reduce(
      (sum, range, index) => sum + (heads[index]?.length ?? 0) + range.end - range.start,
      tail.length,
    );
    const [firstRange] = ranges;
    let first = firstRange && (await blob.open(firstRange));
    async function* parts(): AsyncGenerator<Uint8Array> {
      for (const [index, range] of ranges.entries()) {
        yield heads[index] ?? Buffer.alloc(0);
        yield* first ?? (await blob.open(range));
        first = undefined;
      }
      yield tail;
    }
    ctx.set('Content-Type', `multipart/byteranges; boundary=${boundary}`);
    begin(ctx, 206, length);
    note(ctx, blob, { ranges: ranges.length, bytes: ranges.reduce((sum, { start, end }) => sum + end - start, 0) });
    try {
      await sendBody(ctx.req, ctx.res, parts(), idleMs);
    } finally {
      await first?.[Symbol.asyncDispose]();
    }
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

/** From here on the response is ours and not Koa's. */
function begin(ctx: Context, status: number, length: number): void {
  ctx.respond = false;
  ctx.res.statusCode = status;
  ctx.set('Content-Length', String(length));
}
