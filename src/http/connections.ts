import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';

const SWEEP_MS = 100;

interface Connection {
  /** What is not answered to the last byte, in the order of the requests. */
  readonly responses: Set<ServerResponse>;
  /** When something last happened, by `performance.now()`, and the bytes that had arrived by then. */
  movedAt: number;
  bytesRead: number;
}

/**
 * The connections of a server, and how they come to their end without loss. Node's own `close` and
 * `closeIdleConnections` break off responses whose last bytes are still on their way to a slow client, and requests of
 * which the first bytes have arrived.
 */
export class Connections {
  readonly #server: Server;
  readonly #connections = new Map<Socket, Connection>();
  /** Those of TCP, of an HTTPS server: what is negotiated on one takes its place, with the same remote address. */
  readonly #bare = new Map<string, Socket>();
  #leaving = false;
  #closed: Promise<unknown> | undefined;
  #emptied: () => void = () => undefined;

  /** @param server one that has no connections yet. */
  constructor(server: Server) {
    this.#server = server;
    const secure = 'setSecureContext' in server;
    server.on('connection', (socket: Socket) => this.#add(socket));
    if (secure) {
      server.on('connection', (socket: Socket) => this.#bare.set(remoteOf(socket), socket));
      server.on('secureConnection', (socket: Socket) => this.#replaceBare(socket));
    }
    for (const event of ['request', 'checkContinue', 'checkExpectation'])
      server.prependListener(event, (request: IncomingMessage, response: ServerResponse) =>
        this.#begin(request, response),
      );
  }

  /** From now on every response says that it is the last on its connection. */
  leave(): void {
    this.#leaving = true;
    for (const { responses } of this.#connections.values()) {
      const last = [...responses].at(-1);
      if (last) last.shouldKeepAlive = false;
    }
  }

  /**
   * Takes no new connections, and closes those on which nothing has happened for `idleMs`. What still runs after
   * `limitMs` is broken off. May be called again with other times. @returns when there is no connection any more.
   */
  async end(idleMs: number, limitMs = Number.POSITIVE_INFINITY): Promise<void> {
    this.leave();
    this.#closed ??= Promise.all([this.#close(), this.#empty()]);
    const began = performance.now();
    const sweep = () => {
      if (performance.now() - began >= limitMs) this.#breakOff();
      else this.#closeIdle(idleMs);
    };
    sweep();
    const sweeper = setInterval(sweep, SWEEP_MS);
    await this.#closed;
    clearInterval(sweeper);
  }

  /** A server that is handed its connections does not listen. */
  async #close(): Promise<void> {
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => NetServer.prototype.close.call(this.#server, () => resolve()));
  }

  async #empty(): Promise<void> {
    if (this.#connections.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#emptied = resolve;
    });
  }

  #add(socket: Socket): void {
    this.#connections.set(socket, { responses: new Set(), movedAt: performance.now(), bytesRead: socket.bytesRead });
    const remote = remoteOf(socket);
    socket.once('close', () => {
      this.#connections.delete(socket);
      if (this.#connections.size === 0) this.#emptied();
      if (this.#bare.get(remote) === socket) this.#bare.delete(remote);
    });
  }

  #replaceBare(socket: Socket): void {
    const bare = this.#bare.get(remoteOf(socket));
    if (bare) this.#connections.delete(bare);
    this.#add(socket);
  }

  #begin(request: IncomingMessage, response: ServerResponse): void {
    const connection = this.#connections.get(request.socket);
    if (!connection) return;
    const { responses } = connection;
    if (this.#leaving) {
      // The end of a connection comes after the last of its answers: who sends one more had not asked for the end.
      for (const earlier of responses) if (!earlier.headersSent) earlier.shouldKeepAlive = true;
      response.shouldKeepAlive = false;
    }
    responses.add(response);
    response.once('close', () => {
      responses.delete(response);
      connection.movedAt = performance.now();
    });
  }

  #closeIdle(idleMs: number): void {
    const now = performance.now();
    for (const [socket, connection] of this.#connections) {
      if (connection.responses.size > 0) continue;
      if (socket.bytesRead !== connection.bytesRead) {
        connection.bytesRead = socket.bytesRead;
        connection.movedAt = now;
      } else if (now - connection.movedAt >= idleMs) socket.destroy();
    }
  }

  #breakOff(): void {
    for (const socket of this.#connections.keys()) socket.destroy();
  }
}

function remoteOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}
