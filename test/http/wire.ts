// Requests below `fetch`: exact headers, exact targets, bytes that are no HTTP, connections that stall or end.
import { once } from 'node:events';
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import { request as secureRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { connect as connectSecurely } from 'node:tls';
import { AUTHORIZATION, caOf } from '../support/server.js';

const PATIENCE_MS = 20_000;

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The value of every line of this name. */
  lines(name: string): string[];
  readonly body: Buffer;
}

/** One request on a connection of its own, with the admin key unless `authorization` is given (or empty: none). */
export async function exchange(
  host: string,
  method: string,
  path: string,
  options: { headers?: OutgoingHttpHeaders; body?: Buffer | readonly Buffer[] } = {},
): Promise<Answer> {
  const [hostname, port] = host.split(':');
  const headers: OutgoingHttpHeaders = { authorization: AUTHORIZATION, ...options.headers };
  if (headers.authorization === '') delete headers.authorization;
  const { body } = options;
  if (Buffer.isBuffer(body)) headers['content-length'] ??= body.length;
  const ca = caOf(host);
  const target = { hostname, port, method, path, headers, agent: false };
  const outgoing = ca === undefined ? request(target) : secureRequest({ ...target, ca });
  if (Array.isArray(body)) for (const chunk of body) outgoing.write(chunk);
  outgoing.end(Buffer.isBuffer(body) ? body : undefined);
  const [incoming] = (await once(outgoing, 'response')) as [import('node:http').IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return {
    status: incoming.statusCode ?? 0,
    headers: incoming.headers,
    lines: (name) => incoming.rawHeaders.filter((_, at, all) => at % 2 === 1 && all[at - 1]?.toLowerCase() === name),
    body: Buffer.concat(chunks),
  };
}

/** The head of a request with the admin key, to be written to a socket. */
export function head(method: string, target: string, ...lines: string[]): string {
  return `${[`${method} ${target} HTTP/1.1`, 'Host: test', `Authorization: ${AUTHORIZATION}`, ...lines].join('\r\n')}\r\n\r\n`;
}

/** A connection of which every byte is seen. */
export class Wire {
  closed = false;
  #chunks: Buffer[] = [];
  readonly #started = performance.now();
  readonly #changed: (() => void)[] = [];

  private constructor(readonly socket: Socket) {
    socket.on('data', (bytes: Buffer) => {
      this.#chunks.push(bytes);
      this.#stir();
    });
    socket.on('close', () => {
      this.closed = true;
      this.#stir();
    });
    // A reset shows as closed.
    socket.on('error', () => undefined);
  }

  /** @param from an address of this machine. */
  static async open(host: string, from = '127.0.0.1'): Promise<Wire> {
    const ca = caOf(host);
    const [hostname = '', port] = host.split(':');
    const place = { host: hostname, port: Number(port), localAddress: from, noDelay: true };
    const socket = ca === undefined ? connect(place) : connectSecurely({ ...place, ca });
    await once(socket, ca === undefined ? 'connect' : 'secureConnect');
    return new Wire(socket);
  }

  /** Everything that came, of all responses. */
  get received(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  get text(): string {
    return this.received.toString('latin1');
  }

  /** The status of the last response whose head has arrived. */
  get status(): number {
    return Number([...this.text.matchAll(/HTTP\/1\.1 (\d{3})/g)].at(-1)?.[1] ?? 0);
  }

  get ageMs(): number {
    return performance.now() - this.#started;
  }

  write(bytes: string | Buffer): this {
    this.socket.write(bytes);
    return this;
  }

  /** Waits until `done`, or fails after `ms`: more than a busy machine takes, less than the registry waits by itself. */
  async until(done: (wire: Wire) => boolean, ms = PATIENCE_MS): Promise<this> {
    const deadline = performance.now() + ms;
    while (!done(this)) {
      const left = deadline - performance.now();
      if (left <= 0)
        throw new Error(
          `not within ${ms} ms; closed: ${this.closed}; received ${this.received.length} bytes: ${JSON.stringify(this.text.slice(0, 800))}`,
        );
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#changed.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    return this;
  }

  /** Waits for the end of the connection. */
  async untilClosed(ms = PATIENCE_MS): Promise<this> {
    return await this.until((wire) => wire.closed, ms);
  }

  /** Waits until the `count`th response head is there. */
  async untilAnswers(count: number, ms = PATIENCE_MS): Promise<this> {
    return await this.until((wire) => [...wire.text.matchAll(/HTTP\/1\.1 \d{3}/g)].length >= count, ms);
  }

  end(): void {
    this.socket.destroy();
  }

  #stir(): void {
    for (const changed of this.#changed.splice(0)) changed();
  }
}
