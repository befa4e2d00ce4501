import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer, Server as SecureServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { type Certificate, refusePlainHttp, secureContextOf } from './tls.js';

export interface ServerTimeouts {
  /** All in milliseconds. */
  readonly headersMs: number;
  readonly keepAliveMs: number;
}

/** How often connections are looked at whose head is overdue, at most, in milliseconds. */
const CHECK_MS = 10_000;
/** How long a client whose request can't be read has for the answer. */
const LINGER_MS = 500;

/**
 * An HTTP server for uploads that take hours: no limit on the whole of a request, only on its head and on silence. With
 * a certificate it is an HTTPS server.
 */
export function createHttpServer(
  listener: RequestListener,
  timeouts: ServerTimeouts,
  certificate?: Certificate,
): Server | SecureServer {
  const unanswered = new WeakMap<Duplex, Set<ServerResponse>>();
  const refused = new WeakSet<Duplex>();
  const handle = (request: IncomingMessage, response: ServerResponse) => {
    const responses = unanswered.get(request.socket) ?? new Set();
    unanswered.set(request.socket, responses.add(response));
    response.once('close', () => responses.delete(response));
    listener(request, response);
  };
  const settings = {
    requestTimeout: 0,
    headersTimeout: timeouts.headersMs,
    connectionsCheckingInterval: Math.min(CHECK_MS, Math.ceil(timeouts.headersMs / 2)),
    keepAliveTimeout: timeouts.keepAliveMs,
    noDelay: true,
  };
  const server = certificate
    ? createSecureServer({ ...settings, ...secureContextOf(certificate), handshakeTimeout: timeouts.headersMs }, handle)
    : createServer(settings, handle);
  if (server instanceof SecureServer)
    refusePlainHttp(server, timeouts.headersMs, (socket) =>
      answer(socket, '400 Bad Request', 'this port speaks HTTPS: the address begins with https://'),
    );
  // A client that asks first (Expect: 100-continue) hears "continue" only when its body is wanted.
  server.on('checkContinue', handle);
  server.on('checkExpectation', handle);
  server.on('clientError', (error: Error & { code?: string; rawPacket?: unknown }, socket) => {
    // The packet holds the Authorization header, and the error goes on to whoever waits for the body, and to the log.
    delete error.rawPacket;
    // Each further piece of what was refused is an error, too, which must not cut the answer off.
    if (refused.has(socket)) return;
    refused.add(socket);
    refuseUnreadable(socket, error.code, [...(unanswered.get(socket) ?? [])]);
  });
  server.on('connect', (_request, socket) => {
    socket.on('error', () => undefined);
    answer(socket, '405 Method Not Allowed', 'this is no proxy');
  });
  return server;
}

/**
 * Answers what is no HTTP request, as far as that can be done: bytes written here must not be taken for the answer to an
 * earlier request, nor for the rest of one.
 */
function refuseUnreadable(socket: Duplex, code: string | undefined, unanswered: readonly ServerResponse[]): void {
  const [only, ...others] = unanswered;
  const free = only === undefined || (others.length === 0 && !only.headersSent && !only.req.complete);
  // Where TLS failed nothing that is written can be read.
  if (!free || !socket.writable || code === 'ECONNRESET' || /^ERR_(SSL|TLS)_/.test(code ?? '')) socket.destroy();
  else if (code === 'HPE_HEADER_OVERFLOW')
    answer(socket, '431 Request Header Fields Too Large', 'the head of the request is too large');
  else if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    answer(socket, '408 Request Timeout', 'the head of the request took too long');
  else answer(socket, '400 Bad Request', 'this is no request of HTTP');
}

function answer(socket: Duplex, status: string, message: string): void {
  const body = JSON.stringify({ errors: [{ code: 'UNSUPPORTED', message }] });
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  // What is still arriving is thrown away for a moment: a connection closed over unread bytes takes the answer with it.
  socket.resume();
  setTimeout(() => socket.destroy(), LINGER_MS);
}
