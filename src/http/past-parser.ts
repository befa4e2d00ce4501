import type { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { ARRIVAL_BYTES, arrivalBuffer } from '../arrival-buffers.js';

/** With fewer bytes to come it does not matter how they come. */
const WORTH_TAKING_BYTES = 1024 * 1024;
/** So many bodies at a time; each holds a buffer while its client is silent. */
const MAX_TAKEN = 32;
/** Fewer bytes are copied out, so that a piece holds at most twice its length. */
const WORTH_LENDING_BYTES = ARRIVAL_BYTES / 2;
/** How long fewer bytes than that may wait for more, in milliseconds. */
const GATHER_MS = 1;

/** What is read before and after such a body; the parser copies what it passes on. */
const shared = Buffer.allocUnsafeSlow(ARRIVAL_BYTES);

/** Under which names a socket keeps what the option `onread` says, which only who opens a connection can give. */
const names = (() => {
  const options = { onread: { buffer: shared, callback: () => true } };
  const specimen: Socket = Reflect.construct(Socket, [options]);
  const find = (name: string) => Object.getOwnPropertySymbols(specimen).find((symbol) => symbol.description === name);
  const [buffer, callback, next] = [find('kBuffer'), find('kBufferCb'), find('kBufferGen')];
  return buffer && callback && next && { buffer, callback, next };
})();

/** A connection's handle: Node has it read into a buffer of ours. */
interface Handle {
  useUserBuffer(buffer: Uint8Array): void;
}

const bodies = new WeakMap<Socket, BodyPastParser>();
/** Connections that are read into buffers of ours; they stay so. */
const ours = new WeakSet<Socket>();
/** How many bodies are taken now. */
let count = 0;

/**
 * A request's body, read from its connection straight into buffers that are used again. Node's parser would read it 64 KiB at
 * a time and copy each into a buffer that is garbage a moment later. It still sees all bytes, so that it knows where the body
 * ends, but is kept from passing them on.
 *
 * Node learns of the next buffer only when it tells of bytes: in between it reads on where it stood.
 */
export class BodyPastParser {
  readonly #socket: Socket;
  readonly #arrived: () => void;
  /** Bytes that are still to come. */
  #left: number;
  readonly #ready: Buffer[];
  /** What is read into, from `#filled` on; from `#start` on it has bytes that nobody has seen. */
  #buffer = arrivalBuffer();
  #start = 0;
  #filled = 0;
  #wanted = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #giveBack: () => void;

  private constructor(socket: Socket, left: number, first: Buffer[], arrived: () => void, giveBack: () => void) {
    this.#socket = socket;
    this.#left = left;
    this.#ready = first;
    this.#arrived = arrived;
    this.#giveBack = giveBack;
  }

  /**
   * Takes the body of a request, if that is worth it; nothing of it has been read yet.
   * @param length how many bytes the request announces, if it does.
   * @param arrived is called when there is something to `read`; no more come after the request's `end`.
   * @returns undefined where the parser goes on to pass it.
   */
  static async take(
    request: IncomingMessage,
    length: number | undefined,
    arrived: () => void,
  ): Promise<BodyPastParser | undefined> {
    const { socket } = request;
    if (length === undefined || length < WORTH_TAKING_BYTES) return undefined;
    // The caller may run within the parser, which still has bytes to pass on.
    await setImmediate();
    if (count >= MAX_TAKEN || request.destroyed) return undefined;
    const giveBack = Reflect.get(socket, '_paused') !== true && readByBuffers(socket) && silenceParser(socket);
    if (!giveBack) return undefined;
    const first: Buffer[] = [];
    let left = length;
    for (let bytes = request.read() as Buffer | null; bytes; bytes = request.read() as Buffer | null) {
      first.push(bytes);
      left -= bytes.length;
    }
    const body = new BodyPastParser(socket, left, first, arrived, giveBack);
    bodies.set(socket, body);
    count += 1;
    body.seen();
    return body;
  }

  /** How many bytes are still to come. */
  get left(): number {
    return this.#left;
  }

  /** Whether all bytes came and were read. */
  get ended(): boolean {
    return this.#left === 0 && this.#ready.length === 0;
  }

  /** What has arrived, if anything; its reader may `recycle` it. */
  read(): Buffer | undefined {
    const piece = this.#ready.shift() ?? this.#copyOut();
    this.#wanted = piece === undefined;
    if (this.#ready.length === 0 && this.#left > 0) this.#socket.resume();
    return piece;
  }

  /** The parser passes on what still comes. Idempotent. */
  close(): void {
    clearTimeout(this.#timer);
    if (bodies.get(this.#socket) !== this) return;
    bodies.delete(this.#socket);
    count -= 1;
    this.#giveBack();
    this.#socket.resume();
  }

  /** Called when the parser has seen what was taken: what follows the last byte is another request. */
  seen(): void {
    if (this.#left === 0) this.close();
  }

  /** Where the next bytes are to be read to. */
  get target(): Buffer {
    return this.#left === 0 ? shared : this.#buffer.subarray(this.#filled, this.#filled + this.#left);
  }

  /** Takes bytes that were read. @returns whether to read on */
  take(bytes: Buffer): boolean {
    this.#left -= bytes.length;
    // What began before the body was taken is elsewhere.
    if (bytes.buffer === this.#buffer.buffer) this.#filled += bytes.length;
    else {
      this.#ready.push(Buffer.from(bytes));
      this.#arrived();
      return true;
    }
    const enough = this.#filled - this.#start >= WORTH_LENDING_BYTES;
    if (this.#filled < this.#buffer.length && this.#left > 0 && !(this.#wanted && enough)) {
      if (this.#wanted) this.#timer ??= setTimeout(() => this.#waited(), GATHER_MS);
      return true;
    }
    // After the last byte the parser says when it has enough.
    const readOn = this.#wanted || this.#left === 0;
    this.#flush();
    return readOn;
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const piece = this.#buffer.subarray(this.#start, this.#filled);
    if (piece.length < WORTH_LENDING_BYTES) this.#ready.push(Buffer.from(piece));
    else {
      this.#ready.push(piece);
      this.#buffer = arrivalBuffer();
    }
    this.#start = 0;
    this.#filled = 0;
    this.#wanted = false;
    this.#arrived();
  }

  #copyOut(): Buffer | undefined {
    if (this.#filled === this.#start) return undefined;
    const piece = Buffer.from(this.#buffer.subarray(this.#start, this.#filled));
    this.#start = this.#filled;
    return piece;
  }

  #waited(): void {
    this.#timer = undefined;
    if (this.#wanted) this.#arrived();
  }
}

/** Has the connection read into buffers of ours, out of which the parser is fed. @returns whether it is. */
function readByBuffers(socket: Socket): boolean {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (!names || !isHandle(handle)) return false;
  if (ours.has(socket)) return true;
  ours.add(socket);
  // The parser takes from the handle itself until somebody else listens.
  const nothing = () => undefined;
  socket.on('data', nothing).removeListener('data', nothing);
  Reflect.set(socket, names.buffer, shared);
  Reflect.set(socket, names.next, () => bodies.get(socket)?.target ?? shared);
  Reflect.set(socket, names.callback, (count: number, buffer: Buffer) => {
    const bytes = buffer.subarray(0, count);
    const body = bodies.get(socket);
    if (!body) {
      socket.emit('data', bytes);
      return true;
    }
    // Where a read began before the body was taken it may go beyond its end.
    const own = bytes.subarray(0, body.left);
    const readOn = body.take(own);
    socket.emit('data', own);
    body.seen();
    if (own.length < bytes.length) socket.emit('data', bytes.subarray(own.length));
    return readOn;
  });
  handle.useUserBuffer(shared);
  return true;
}

/** Keeps the parser from passing bodies on. @returns how to have it do so again; undefined if it is not as it should be. */
function silenceParser(socket: Socket): (() => void) | undefined {
  const parser: unknown = Reflect.get(socket, 'parser');
  if (typeof parser !== 'object' || parser === null) return undefined;
  const key: unknown = Reflect.get(parser.constructor, 'kOnBody');
  if (typeof key !== 'number') return undefined;
  const onBody: unknown = Reflect.get(parser, key);
  if (typeof onBody !== 'function') return undefined;
  Reflect.set(parser, key, null);
  return () => {
    Reflect.set(parser, key, onBody);
  };
}

function isHandle(handle: unknown): handle is Handle {
  return typeof handle === 'object' && handle !== null && 'useUserBuffer' in handle;
}
