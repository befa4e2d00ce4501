// HTTP by hand, one connection a request, so that a test knows exactly what was sent and what was acknowledged.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as plainRequest,
  type RequestOptions,
} from 'node:http';
import { request as secureRequest } from 'node:https';
import { AUTHORIZATION, caOf } from '../../support/server.js';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

const SILENCE_MS = 120_000;

function request(host: string, options: RequestOptions): ClientRequest {
  const [hostname, port] = host.split(':');
  const ca = caOf(host);
  const target = { agent: false, ...options, hostname, port };
  return ca === undefined ? plainRequest(target) : secureRequest({ ...target, ca });
}

/** One request whose body the test sends piece by piece, and which it may break off. */
export class Exchange {
  readonly #request: ClientRequest;
  #closed = false;
  /** Undefined: the connection ended before the answer did. */
  readonly answer: Promise<Answer | undefined>;

  constructor(host: string, method: string, path: string, headers: Record<string, string | number> = {}) {
    this.#request = request(host, {
      method,
      path,
      headers: { authorization: AUTHORIZATION, ...headers },
      timeout: SILENCE_MS,
    });
    this.#request.on('timeout', () => this.#request.destroy());
    this.answer = new Promise((resolve) => {
      let answered = false;
      // A response that breaks off is an error of its own; `collect` sees it.
      this.#request.on('error', () => answered || resolve(undefined));
      this.#request.on('close', () => {
        this.#closed = true;
        // The end of the connection may be seen before the last of the answer is read.
        if (!answered) resolve(undefined);
      });
      this.#request.on('response', (response) => {
        answered = true;
        void collect(response).then(resolve);
      });
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Sends a piece and waits until the socket has taken it. @returns false when nobody takes any more. */
  async write(bytes: Uint8Array): Promise<boolean> {
    if (this.#closed || this.#request.destroyed) return false;
    if (!this.#request.write(bytes)) {
      const ended = this.answer.then(() => undefined);
      const controller = new AbortController();
      const drained = once(this.#request, 'drain', { signal: controller.signal }).catch(() => undefined);
      await Promise.race([drained, ended]);
      controller.abort();
    }
    return !this.#closed && !this.#request.destroyed;
  }

  end(): void {
    this.#request.end();
  }

  /** The client is gone: its socket is destroyed without a word. */
  vanish(): void {
    this.#request.destroy();
  }
}

async function collect(response: IncomingMessage): Promise<Answer | undefined> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  } catch {
    return undefined;
  }
  if (!response.complete) return undefined;
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
}

/** Sends a request with a small body or none. Undefined: the connection ended before the answer did. */
export async function send(
  host: string,
  method: string,
  path: string,
  options: { headers?: Record<string, string | number>; body?: Uint8Array } = {},
): Promise<Answer | undefined> {
  const length = options.body ? { 'content-length': options.body.length } : {};
  const exchange = new Exchange(host, method, path, { ...length, ...options.headers });
  if (options.body && options.body.length > 0) await exchange.write(options.body);
  exchange.end();
  return await exchange.answer;
}

export interface Pulled {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly size: number;
  readonly digest: string;
  /** Whether all came that Content-Length had announced. */
  readonly whole: boolean;
}

/** GET of a blob, hashed as it comes; `onBytes` may break it off by throwing. Undefined: there was no answer. */
export async function pull(
  host: string,
  path: string,
  onBytes: (bytes: number) => void | Promise<void> = () => undefined,
): Promise<Pulled | undefined> {
  const asked = request(host, { path, headers: { authorization: AUTHORIZATION }, timeout: SILENCE_MS });
  asked.on('timeout', () => asked.destroy());
  asked.end();
  const response = await new Promise<IncomingMessage | undefined>((resolve) => {
    asked.on('error', () => resolve(undefined));
    asked.on('response', resolve);
  });
  if (!response) return undefined;
  const hash = createHash('sha256');
  let size = 0;
  let whole = true;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      hash.update(chunk);
      size += chunk.length;
      await onBytes(size);
    }
  } catch {
    whole = false;
  }
  whole &&= response.complete && size === Number(response.headers['content-length']);
  const retryAfter = response.headers['retry-after'];
  return { status: response.statusCode ?? 0, retryAfter, size, whole, digest: `sha256:${hash.digest('hex')}` };
}
