import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer, Server as SecureServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { isApiTarget } from './doors.js';
import { SECURITY_HEADERS } from './security-headers.js';
import { type Certificate, refusePlainHttp, secureContextOf } from './tls.js';

export interface ServerOptions {
  /** How long a client may take for the head of a request, in milliseconds. */
  readonly headersMs: number;
  /** How long a connection is kept for its next request, in milliseconds. */
  readonly keepAliveMs: number;
  /** In bytes. The parser takes what both allow together; limits.ts looks at each. */
  readonly headerMaxBytes: number;
  readonly urlMaxBytes: number;
  /** Further connections are closed at once, which is a `drop` event. */
  readonly maxConnections: number;
}

/** How often connections are looked at whose head is overdue, at most, in milliseconds. */
const CHECK_MS = 10_000;
/** Requests that one connection may send ahead of their answers. */
const MAX_AHEAD = 100;
/** How long a client whose request can't be read has for the answer. */
const LINGER_MS = 500;

/**
 * An HTTP server for uploads that take hours: no limit on the whole of a request, only on its head and on silence. With
 * a certificate it is an HTTPS server.
 */
export function createHttpServer(
  listener: RequestListener,
  options: ServerOptions,
  certificate?: Certificate,
): Server | SecureServer {
  const unanswered = new WeakMap<Duplex, Set<ServerResponse>>();
  const refused = new WeakSet<Duplex>();
  const handle = (request: IncomingMessage, response: ServerResponse) => {
    const responses = unanswered.get(request.socket) ?? new Set();
    const fault = faultOf(request);
    if (fault !== undefined) {
      refused.add(request.socket);
      refuseUnreadable(request.socket, fault, [...responses], request.url);
    }
    // What follows in the same packet may be its body.
    if (refused.has(request.socket)) return;
    if (responses.size >= MAX_AHEAD) {
      refused.add(request.socket);
      request.socket.destroy();
      return;
    }
    const [former] = [...responses].slice(-1);
    unanswered.set(request.socket, responses.add(response));
    response.once('close', () => responses.delete(response));
    // One after the other (RFC 9112 section 9.3.2): Node would run all that are sent ahead at the same time.
    if (former === undefined) listener(request, response);
    else former.once('close', () => request.socket.writable && listener(request, response));
  };
  const settings = {
    requestTimeout: 0,
    headersTimeout: options.headersMs,
    connectionsCheckingInterval: Math.min(CHECK_MS, Math.ceil(options.headersMs / 2)),
    keepAliveTimeout: options.keepAliveMs,
    noDelay: true,
    maxHeaderSize: options.headerMaxBytes + options.urlMaxBytes,
    // Also where NODE_OPTIONS says otherwise: what a lenient parser takes for one request another takes for two.
    insecureHTTPParser: false,
    // Node's own refusal has no body; see faultOf.
    requireHostHeader: false,
  };
  const server = certificate
    ? createSecureServer({ ...settings, ...secureContextOf(certificate), handshakeTimeout: options.headersMs }, handle)
    : createServer(settings, handle);
  if (server instanceof SecureServer)
    refusePlainHttp(server, options.headersMs, (socket) =>
      answer(socket, '400 Bad Request', 'this port speaks HTTPS: the address begins with https://'),
    );
  server.maxConnections = options.maxConnections;
  // Node drops what is beyond its count without a word; limits.ts refuses it.
  server.maxHeadersCount = 0;
  // A client that asks first (Expect: 100-continue) hears "continue" only when its body is wanted.
  server.on('checkContinue', handle);
  server.on('checkExpectation', handle);
  server.on('clientError', (error: Error & { code?: string; rawPacket?: unknown }, socket) => {
    const target = targetOf(error.rawPacket);
    const longTarget = error.code === 'HPE_HEADER_OVERFLOW' && target.length > options.urlMaxBytes;
    // The packet holds the Authorization header, and the error goes on to whoever waits for the body, and to the log.
    delete error.rawPacket;
    // Each further piece of what was refused is an error, too, which must not cut the answer off.
    if (refused.has(socket)) return;
    refused.add(socket);
    const code = longTarget ? 'long target' : error.code;
    refuseUnreadable(socket, code, [...(unanswered.get(socket) ?? [])], target);
  });
  server.on('connect', (_request, socket) => {
    socket.on('error', () => undefined);
    answer(socket, '405 Method Not Allowed', 'this is no proxy');
  });
  return server;
}

/**
 * What the parser lets pass. Others must agree where a body ends: Node 20 takes an empty Transfer-Encoding for none (later
 * ones refuse it), and all leave other codings than chunked in the bytes.
 */
function faultOf({ headers, httpVersion }: IncomingMessage): 'no coding' | 'unknown coding' | 'no host' | undefined {
  const coding = headers['transfer-encoding'];
  if (coding === '') return 'no coding';
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') return 'unknown coding';
  return headers.host === undefined && httpVersion === '1.1' ? 'no host' : undefined;
}

/**
 * Answers what is no HTTP request, as far as that can be done: bytes written here must not be taken for the answer to an
 * earlier request, nor for the rest of one.
 */
function refuseUnreadable(
  socket: Duplex,
  code: string | undefined,
  unanswered: readonly ServerResponse[],
  target: string | undefined,
): void {
  const [only, ...others] = unanswered;
  const free = only === undefined || (others.length === 0 && !only.headersSent && !only.req.complete);
  // Where TLS failed nothing that is written can be read.
  if (!free || !socket.writable || code === 'ECONNRESET' || /^ERR_(SSL|TLS)_/.test(code ?? '')) socket.destroy();
  else if (code === 'long target') answer(socket, '414 URI Too Long', 'the target of the request is too long', target);
  else if (code === 'HPE_HEADER_OVERFLOW')
    answer(socket, '431 Request Header Fields Too Large', 'the head of the request is too large', target);
  else if (code === 'unknown coding')
    answer(socket, '501 Not Implemented', 'the only Transfer-Encoding here is chunked', target);
  else if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    answer(socket, '408 Request Timeout', 'the head of the request took too long', target);
  else answer(socket, '400 Bad Request', 'this is no request of HTTP', target);
}

/** The target in a packet that could not be read; empty where that came in pieces, or there is none. */
function targetOf(packet: unknown): string {
  if (!Buffer.isBuffer(packet)) return '';
  return /^[A-Z]+ ([^ \n]*)/.exec(packet.toString('latin1'))?.[1] ?? '';
}

const FIELDS = Object.entries({ Connection: 'close', 'Content-Type': 'application/json', ...SECURITY_HEADERS })
  .map(([name, value]) => `${name}: ${value}\r\n`)
  .join('');

/** Answers in the form of the door that `target` means. */
function answer(socket: Duplex, status: string, message: string, target = ''): void {
  const body = JSON.stringify(
    isApiTarget(target) ? { detail: message } : { errors: [{ code: 'UNSUPPORTED', message }] },
  );
  socket.end(`HTTP/1.1 ${status}\r\n${FIELDS}Content-Length: ${body.length}\r\n\r\n${body}`);
  // What is still arriving is thrown away for a moment: a connection closed over unread bytes takes the answer with it.
  socket.resume();
  setTimeout(() => socket.destroy(), LINGER_MS);
}
