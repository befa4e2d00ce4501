import type { IncomingMessage, ServerResponse } from 'node:http';
import { RegistryError } from '../errors.js';
import { passedBytes } from '../garbage.js';
import { BodyPastParser } from './past-parser.js';
import { trafficOf } from './traffic.js';

/** Whether the request announces a body: a length above 0, or chunked. */
export function hasBody(request: IncomingMessage): boolean {
  return request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0;
}

/** The announced length in bytes; undefined when the body is chunked. */
export function contentLength(request: IncomingMessage): number | undefined {
  const header = request.headers['content-length'];
  return header === undefined ? undefined : Number(header);
}

/**
 * The bytes of a request as they arrive. Nothing is read ahead beyond the socket's own buffer, and leaving the loop
 * early leaves the connection open for the answer.
 * @throws 'ClientGone' if the client breaks off or sends nothing for `idleMs`; the signal's reason when it is aborted.
 */
export async function* readRequest(
  request: IncomingMessage,
  response: ServerResponse,
  idleMs: number,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  let wake: (() => void) | undefined;
  const stir = () => wake?.();
  let idle = false;
  const traffic = trafficOf(request);
  const onIdle = () => {
    idle = true;
    stir();
  };
  continueIfExpected(request, response);
  request.socket.setTimeout(idleMs, onIdle);
  for (const event of ['readable', 'end', 'error', 'close'] as const) request.on(event, stir);
  signal?.addEventListener('abort', stir);
  let past: BodyPastParser | undefined;
  try {
    past = await BodyPastParser.take(request, contentLength(request), stir);
    for (;;) {
      signal?.throwIfAborted();
      const bytes = past && !past.ended ? past.read() : (request.read() as Buffer | null);
      if (bytes) {
        if (!past) passedBytes(bytes.length);
        traffic?.receive(bytes.length);
        yield bytes;
        continue;
      }
      if (request.readableEnded) return;
      if (request.destroyed || request.errored || idle) {
        throw new RegistryError('ClientGone', idle ? 'the client sent nothing for too long' : 'the client broke off', {
          cause: request.errored,
        });
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    past?.close();
    request.socket.setTimeout(0);
    request.socket.removeListener('timeout', onIdle);
    for (const event of ['readable', 'end', 'error', 'close'] as const) request.removeListener(event, stir);
    signal?.removeEventListener('abort', stir);
  }
}

/** All of a small body. @throws `tooLarge()` as soon as it is longer than `maxBytes`. */
export async function readWhole(
  request: IncomingMessage,
  response: ServerResponse,
  limits: { maxBytes: number; idleMs: number },
  tooLarge: () => RegistryError,
): Promise<Buffer> {
  if ((contentLength(request) ?? 0) > limits.maxBytes) throw tooLarge();
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of readRequest(request, response, limits.idleMs)) {
    size += chunk.length;
    if (size > limits.maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

const continued = new WeakSet<IncomingMessage>();

/** Only now is the client asked for its body: one that is refused (401, 416) need not be sent. RFC 9110 section 10.1.1. */
function continueIfExpected(request: IncomingMessage, response: ServerResponse): void {
  if (request.headers.expect?.toLowerCase() !== '100-continue' || continued.has(request)) return;
  continued.add(request);
  response.writeContinue();
}

/** Whether the client may still be sending a body that nobody reads. */
export function isUnread(request: IncomingMessage): boolean {
  if (!hasBody(request) || request.readableEnded || request.destroyed) return false;
  return request.headers.expect?.toLowerCase() !== '100-continue' || continued.has(request);
}

/** Reads on and throws away, for a while, so that a client that is still sending sees the answer before the connection ends. */
export async function drain(request: IncomingMessage, ms: number): Promise<void> {
  if (request.readableEnded || request.destroyed) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    request.once('end', done).once('close', done).once('error', done);
    request.resume();
  });
}
