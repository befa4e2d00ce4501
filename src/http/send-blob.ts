import { randomBytes } from 'node:crypto';
import {
  type ByteRange,
  contentRange,
  ifRangeMatches,
  parseRangeHeader,
  unsatisfiedContentRange,
} from '../oci/range.js';
import type { OpenableBlob } from '../registry/blobs.js';
import type { Context } from './context.js';
import { sendBody } from './send.js';

export interface BlobSenderOptions {
  readonly idleMs: number;
  readonly rangesMax: number;
  /** nginx's internal location for the store's folder, or empty. */
  readonly xAccelPrefix: string;
}

/** What differs between the doors that send blobs. */
export interface BlobAnswer {
  /** Of the bytes. */
  readonly type: string;
  /** Told when the answer has begun, with the part that is sent. */
  note(part: Readonly<Record<string, unknown>>): void;
  /** The body of a 416. */
  unsatisfiable(message: string): object;
}

/** Sends blobs, whole or by ranges (RFC 9110 section 14). The head that does not depend on the range is set before. */
export function blobSender({ idleMs, rangesMax, xAccelPrefix }: BlobSenderOptions) {
  async function send(ctx: Context, blob: OpenableBlob, answer: BlobAnswer): Promise<void> {
    const etag = `"${blob.digest}"`;
    if (xAccelPrefix !== '' && blob.wholeObject !== undefined) {
      // nginx would send what it finds: that all of it is there is seen to here.
      if (blob.size > 0) await (await blob.open({ start: blob.size - 1, end: blob.size }))[Symbol.asyncDispose]();
      // nginx reads the Range and If-Range headers itself. An empty text keeps the type, which null would take away.
      ctx.status = 200;
      ctx.body = '';
      ctx.set('X-Accel-Redirect', xAccelPrefix + blob.wholeObject);
      // How many bytes of it nginx will send is its own affair.
      answer.note({ range: ctx.get('Range').slice(0, 200) || null });
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
      ctx.body = answer.unsatisfiable(`no byte of this range is in the blob, which has ${blob.size}`);
      return;
    }
    if (ranges === 'whole') await sendOne(ctx, blob, answer, 200, { start: 0, end: blob.size });
    else if (ranges.length === 1 && ranges[0]) {
      ctx.set('Content-Range', contentRange(ranges[0], blob.size));
      await sendOne(ctx, blob, answer, 206, ranges[0]);
    } else await sendSeveral(ctx, blob, answer, ranges);
  }

  async function sendOne(
    ctx: Context,
    blob: OpenableBlob,
    answer: BlobAnswer,
    status: number,
    range: ByteRange,
  ): Promise<void> {
    const bytes = await blob.open(range);
    begin(ctx, status, range.end - range.start);
    answer.note({ start: range.start, bytes: range.end - range.start });
    try {
      await sendBody(ctx.req, ctx.res, bytes, idleMs);
    } finally {
      await bytes[Symbol.asyncDispose]();
    }
  }

  /** multipart/byteranges (RFC 9110 section 14.6). */
  async function sendSeveral(
    ctx: Context,
    blob: OpenableBlob,
    answer: BlobAnswer,
    ranges: readonly ByteRange[],
  ): Promise<void> {
    const boundary = randomBytes(16).toString('hex');
    const heads = ranges.map((range) =>
      Buffer.from(
        `\r\n--${boundary}\r\nContent-Type: ${answer.type}\r\nContent-Range: ${contentRange(range, blob.size)}\r\n\r\n`,
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
    answer.note({ ranges: ranges.length, bytes: ranges.reduce((sum, { start, end }) => sum + end - start, 0) });
    try {
      await sendBody(ctx.req, ctx.res, parts(), idleMs);
    } finally {
      await first?.[Symbol.asyncDispose]();
    }
  }

  return send;
}

/** From here on the response is ours and not Koa's. */
function begin(ctx: Context, status: number, length: number): void {
  ctx.respond = false;
  ctx.res.statusCode = status;
  ctx.set('Content-Length', String(length));
}
