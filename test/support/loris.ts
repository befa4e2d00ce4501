// Slow lorises: connections that are kept busy with as little as possible.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectSecurely } from 'node:tls';

/**
 * `silent`: sends nothing; `head`: a request's head, a byte at a time; `body`: an upload's body, a byte at a time;
 * `download`: asks for a blob and reads it a byte at a time.
 */
export type Habit = 'silent' | 'head' | 'body' | 'download';

export interface Loris {
  readonly habit: Habit;
  readonly socket: Socket;
  closed: boolean;
  /** How long it lived, in milliseconds. */
  lived: number;
  received: string;
  bytes: number;
}

/** Any number of them against one registry, all with the same beat. */
export class LorisCrowd {
  readonly all: Loris[] = [];
  readonly #beat: NodeJS.Timeout;
  #sends = true;
  #reads = false;

  constructor(
    readonly host: string,
    readonly authorization: string,
    beatMs: number,
    /** Over TLS, with a certificate that Node trusts. */
    readonly secure = false,
  ) {
    this.#beat = setInterval(() => this.#tick(), beatMs);
  }

  /** @param target of the request, for `body` and `download`. */
  async add(habit: Habit, target = '/v2/'): Promise<void> {
    const [hostname, port] = this.host.split(':');
    const byte = Buffer.alloc(1);
    const large = Buffer.alloc(64 * 1024);
    const place = {
      host: hostname ?? '',
      port: Number(port),
      noDelay: true,
      onread: {
        buffer: () => (habit === 'download' && !this.#reads ? byte : large),
        callback: (size: number, buffer: Uint8Array) => {
          loris.bytes += size;
          if (loris.received.length < 2000) loris.received += Buffer.from(buffer.subarray(0, size)).toString('latin1');
          // A byte, and then no more until the next beat.
          return habit !== 'download' || this.#reads;
        },
      },
    };
    const socket = this.secure ? connectSecurely({ ...place, servername: hostname ?? '' }) : connect(place);
    const begun = performance.now();
    const loris: Loris = { habit, socket, closed: false, lived: 0, received: '', bytes: 0 };
    socket.on('error', () => undefined);
    socket.on('close', () => {
      loris.closed = true;
      loris.lived = performance.now() - begun;
    });
    await once(socket, this.secure ? 'secureConnect' : 'connect');
    this.all.push(loris);
    const fields = `Host: loris\r\nAuthorization: ${this.authorization}\r\n`;
    if (habit === 'head') socket.write('GET /v2/ HTTP/1.1\r\nHost: loris\r\nX-Slow: ');
    if (habit === 'body') socket.write(`PATCH ${target} HTTP/1.1\r\n${fields}Content-Length: 1000000\r\n\r\n`);
    if (habit === 'download') socket.write(`GET ${target} HTTP/1.1\r\n${fields}\r\n`);
  }

  /** Those whose connections have not ended. */
  open(habit?: Habit): Loris[] {
    return this.all.filter((loris) => !loris.closed && (habit === undefined || loris.habit === habit));
  }

  /** From now on nothing is sent. */
  fallSilent(): void {
    this.#sends = false;
  }

  /** From now on downloads read all that comes; only so do they see that their connection has ended. */
  readOn(): void {
    this.#reads = true;
    for (const { socket } of this.open('download')) socket.resume();
  }

  end(): void {
    clearInterval(this.#beat);
    for (const { socket } of this.all) socket.destroy();
  }

  #tick(): void {
    for (const { habit, socket } of this.open()) {
      if (habit === 'download') socket.resume();
      else if (habit !== 'silent' && this.#sends && socket.writable) socket.write('x');
    }
  }
}
