// Stands between a store and radosgw, sees every request, and does with some of them what networks and gateways do.
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Ceph } from './ceph.js';

export type Operation =
  | 'Head'
  | 'Get'
  | 'Put'
  | 'Delete'
  | 'Begin'
  | 'Part'
  | 'Complete'
  | 'Abort'
  | 'ListParts'
  | 'ListUploads'
  | 'List';

export interface Seen {
  readonly operation: Operation;
  readonly part: number;
  /** How often this operation on this object and part was seen before. */
  readonly before: number;
}

/**
 * What becomes of a request: it passes; S3's answer is made up; it is never answered, unseen by radosgw; radosgw's answer
 * gets lost; its first byte arrives as another one; the answer's body ends or stands still after so many bytes.
 */
export type Fate =
  | 'pass'
  | 'hang'
  | 'lose-answer'
  | 'damage'
  | { readonly status: number; readonly code: string }
  | { readonly cutAfter: number }
  | { readonly stallAfter: number };

export class Gateway {
  /** Decides over each request; a promise holds it. */
  fate: (seen: Seen) => Fate | Promise<Fate> = () => 'pass';
  readonly seen: Seen[] = [];
  /** Bytes of segments that went to the store by ranges, and of parts and objects that came from it. */
  readonly bytes = { read: 0, written: 0 };
  readonly #counts = new Map<string, number>();
  readonly #server: Server;

  private constructor(readonly ceph: Ceph) {
    this.#server = createServer((incoming, outgoing) => {
      this.#handle(incoming, outgoing).catch(() => outgoing.destroy());
    });
    // A store may leave a part open as long as its client likes.
    this.#server.requestTimeout = 0;
  }

  static async before(ceph: Ceph): Promise<Gateway> {
    const gateway = new Gateway(ceph);
    gateway.#server.listen(0, '127.0.0.1');
    await once(gateway.#server, 'listening');
    return gateway;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  count(operation: Operation): number {
    return this.seen.filter((seen) => seen.operation === operation).length;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const seen = this.#look(incoming);
    this.seen.push(seen);
    const fate = await this.fate(seen);
    if (fate === 'hang') return;
    if (typeof fate === 'object' && 'status' in fate) {
      // As a gateway that fails does: after it has read what was sent.
      for await (const _ of incoming);
      const body = `<?xml version="1.0"?><Error><Code>${fate.code}</Code><Message>made up</Message></Error>`;
      outgoing.writeHead(fate.status, { 'content-type': 'application/xml' });
      outgoing.end(incoming.method === 'HEAD' ? undefined : body);
      return;
    }
    await this.#forward(incoming, outgoing, fate, seen.operation);
  }

  async #forward(incoming: IncomingMessage, outgoing: ServerResponse, fate: Fate, operation: Operation): Promise<void> {
    const { method, headers, url: path } = incoming;
    const forwarded = request({ host: '127.0.0.1', port: this.ceph.port, method, headers, path, agent: false });
    forwarded.on('error', () => outgoing.destroy());
    outgoing.on('close', () => {
      if (fate !== 'lose-answer') forwarded.destroy();
    });
    let first = fate === 'damage';
    incoming.on('data', (bytes: Buffer) => {
      if (operation === 'Part' || operation === 'Put') this.bytes.written += bytes.length;
      const sent = first ? Buffer.from(bytes) : bytes;
      if (first) sent[0] = (sent[0] ?? 0) ^ 1;
      first = false;
      if (!forwarded.write(sent)) {
        incoming.pause();
        forwarded.once('drain', () => incoming.resume());
      }
    });
    incoming.on('end', () => forwarded.end());
    incoming.on('aborted', () => forwarded.destroy());
    const [answer] = (await once(forwarded, 'response')) as [IncomingMessage];
    if (fate === 'lose-answer') {
      for await (const _ of answer);
      outgoing.destroy();
      return;
    }
    outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
    const [cut, stall] = [Object(fate).cutAfter, Object(fate).stallAfter] as (number | undefined)[];
    let sent = 0;
    for await (const bytes of answer as AsyncIterable<Buffer>) {
      const room = (cut ?? stall ?? Number.POSITIVE_INFINITY) - sent;
      sent += bytes.length;
      if (operation === 'Get' && answer.statusCode === 206) this.bytes.read += bytes.length;
      if (!outgoing.write(bytes.subarray(0, room))) await drained(outgoing);
      if (bytes.length < room) continue;
      if (stall === undefined) outgoing.destroy();
      return;
    }
    outgoing.end();
  }

  #look({ method = '', url = '' }: IncomingMessage): Seen {
    const { pathname, searchParams } = new URL(url, this.endpoint);
    const part = Number(searchParams.get('partNumber') ?? 0);
    const operation = operationOf(method, searchParams);
    const identity = `${operation} ${pathname} ${part}`;
    const before = this.#counts.get(identity) ?? 0;
    this.#counts.set(identity, before + 1);
    return { operation, part, before };
  }
}

async function drained(outgoing: ServerResponse): Promise<void> {
  await new Promise<void>((resolve) => {
    const go = () => {
      outgoing.off('drain', go).off('close', go);
      resolve();
    };
    outgoing.on('drain', go).on('close', go);
  });
}

function operationOf(method: string, query: URLSearchParams): Operation {
  const upload = query.has('uploadId');
  if (method === 'HEAD') return 'Head';
  if (method === 'PUT') return upload ? 'Part' : 'Put';
  if (method === 'POST') return upload ? 'Complete' : 'Begin';
  if (method === 'DELETE') return upload ? 'Abort' : 'Delete';
  if (upload) return 'ListParts';
  if (query.has('uploads')) return 'ListUploads';
  return query.has('list-type') ? 'List' : 'Get';
}
