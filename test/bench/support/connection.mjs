// A kept connection of HTTP/1.1 for small requests, one after the other, at little cost.
import { connect } from 'node:net';

const BUFFER_BYTES = 64 * 1024;
const LAST_CHUNK = '0\r\n\r\n';

/** The body that was sent in chunks, of which the last one has come. */
function unchunk(text) {
  let body = '';
  for (let at = 0; ; ) {
    const line = text.indexOf('\r\n', at);
    const length = Number.parseInt(text.slice(at, line), 16);
    if (length === 0) return body;
    body += text.slice(line + 2, line + 2 + length);
    at = line + 2 + length + 2;
  }
}

export class Connection {
  #socket;
  #asked;
  #taken = '';
  #isHead = false;

  constructor(port) {
    this.port = port;
  }

  /**
   * Asks and waits for the whole answer.
   * @param {{ method?: string, path: string, headers?: object, body?: string | Uint8Array }} request
   * @returns status; `field(name)`; the body as text in latin1
   */
  ask({ method = 'GET', path, headers = {}, body }) {
    if (!this.#socket) this.#open();
    const length = body === undefined && (method === 'GET' || method === 'HEAD') ? '' : Buffer.byteLength(body ?? '');
    let head = `${method} ${path} HTTP/1.1\r\nhost: 127.0.0.1:${this.port}\r\n`;
    if (length !== '') head += `content-length: ${length}\r\n`;
    for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
    this.#isHead = method === 'HEAD';
    this.#taken = '';
    return new Promise((resolve, reject) => {
      this.#asked = { resolve, reject };
      this.#socket.write(
        body === undefined ? `${head}\r\n` : Buffer.concat([Buffer.from(`${head}\r\n`), Buffer.from(body)]),
      );
    });
  }

  close() {
    this.#asked = undefined;
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #open() {
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    const callback = (count) => {
      this.#taken += buffer.latin1Slice(0, count);
      this.#look();
      return true;
    };
    const socket = connect({ port: this.port, host: '127.0.0.1', noDelay: true, onread: { buffer, callback } });
    const fail = (error) => {
      if (this.#socket === socket) this.#socket = undefined;
      const asked = this.#asked;
      this.#asked = undefined;
      asked?.reject(error);
    };
    socket.on('error', fail).on('close', () => fail(new Error('the connection was closed')));
    this.#socket = socket;
  }

  /** Whether all of the answer is there. */
  #look() {
    const taken = this.#taken;
    const end = taken.indexOf('\r\n\r\n');
    if (end < 0) return;
    const status = Number(taken.slice(9, 12));
    const field = (name) => new RegExp(`\r\n${name}: *([^\r]*)`, 'i').exec(taken.slice(0, end))?.[1];
    let body = '';
    if (!this.#isHead && status !== 204 && status !== 304) {
      const length = field('content-length');
      if (length === undefined) {
        if (!taken.endsWith(LAST_CHUNK)) return;
        body = unchunk(taken.slice(end + 4));
      } else {
        if (taken.length < end + 4 + Number(length)) return;
        body = taken.slice(end + 4);
      }
    }
    const { resolve } = this.#asked;
    this.#asked = undefined;
    if (/^close$/i.test(field('connection') ?? '')) this.close();
    resolve({ status, field, body });
  }
}
