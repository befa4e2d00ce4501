import { createServer, type RequestListener, type Server } from 'node:http';

export interface ServerTimeouts {
  /** All in milliseconds. */
  readonly headersMs: number;
  readonly keepAliveMs: number;
}

/** An HTTP server for uploads that take hours: no limit on the whole of a request, only on its head and on silence. */
export function createHttpServer(listener: RequestListener, timeouts: ServerTimeouts): Server {
  const server = createServer(
    { requestTimeout: 0, headersTimeout: timeouts.headersMs, keepAliveTimeout: timeouts.keepAliveMs, noDelay: true },
    listener,
  );
  // A client that asks first (Expect: 100-continue) hears "continue" only when its body is wanted.
  server.on('checkContinue', listener);
  server.on('checkExpectation', listener);
  return server;
}

/** Stops taking connections and lets requests finish for `ms`; what still runs then is broken off. */
export async function drainServer(server: Server, ms: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), ms);
  await closed;
  clearTimeout(timer);
}
