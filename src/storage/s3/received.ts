import type { IncomingMessage } from 'node:http';
import { type Taker, takeConnection } from './arrivals.js';

/** With fewer bytes to come a connection is worth more than they are: the parser has them, and it is used again. */
export const WORTH_TAKING_BYTES = 256 * 1024;

interface Piece {
  readonly bytes: Uint8Array;
  /** What the bytes are in, if it is one of ours. */
  readonly buffer: Buffer | undefined;
}

/**
 * The body of an answer. A long one is read past the parser, straight into buffers that are lent to the reader and used
 * again; its connection ends with it.
 */
export class Received implements Taker {
  readonly #message: IncomingMessage;
  readonly #taken: boolean;
  /** Bytes that are still to come. */
  #left: number;
  readonly #free: Buffer[];
  /** The one that is being filled; never full. */
  #current: Buffer | undefined;
  #filled = 0;
  readonly #ready: Piece[] = [];
  #lent: Buffer | undefined;
  #ended = false;
  #paused = false;
  #wake: (() => void) | undefined;

  /**
   * @param length how many bytes the body has.
   * @param buffers three or more to read into, of any size; none if `length` is not worth it. Free again after `close`.
   */
  constructor(message: IncomingMessage, length: number, buffers: readonly Buffer[]) {
    this.#message = message;
    this.#left = length;
    this.#free = [...buffers];
    message.once('error', () => undefined).once('close', () => this.#end());
    // What came with the head is in memory of its own.
    const first = message.read() as Buffer | null;
    if (first) this.#pass(first);
    const known = Number(message.headers['content-length']) === length;
    this.#taken = known && this.#left > 0 && buffers.length > 0 && takeConnection(message, this);
    if (this.#taken) {
      this.#current = this.#free.pop();
      message.socket.resume();
    } else message.on('data', (bytes: Buffer) => this.#pass(bytes));
  }

  /**
   * The next piece, good until the next call; one at a time.
   * @returns undefined if no more come: all did, the connection broke, or there was none for `limitMs`.
   */
  async next(limitMs: number): Promise<Uint8Array | undefined> {
    if (this.#lent) this.#free.push(this.#lent);
    this.#lent = undefined;
    this.#current ??= this.#free.pop();
    if (this.#ready.length === 0) this.#flush();
    this.#resume();
    if (this.#ready.length === 0 && this.#left > 0 && !this.#ended) await this.#more(limitMs);
    const piece = this.#ready.shift();
    this.#lent = piece?.buffer;
    return piece?.bytes;
  }

  /** Ends it. Idempotent. */
  close(): void {
    this.#end();
    if (this.#taken) this.#message.socket.destroy();
    else if (this.#left > 0) this.#message.destroy();
    else this.#message.resume();
  }

  target(): Uint8Array | undefined {
    return this.#current?.subarray(this.#filled);
  }

  take(arrived: Uint8Array): boolean {
    const bytes = arrived.subarray(0, this.#left);
    this.#left -= bytes.length;
    if (bytes.buffer === this.#current?.buffer) this.#filled += bytes.length;
    else this.#copy(bytes);
    if (this.#filled === this.#current?.length || this.#wake || this.#left === 0) this.#flush();
    if (this.#left === 0) this.#message.socket.destroy();
    this.#wake?.();
    this.#paused = !this.#wanted;
    return !this.#paused;
  }

  /** The rest of a read that began before there was a buffer for it. */
  #copy(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const room = this.target();
      if (!room) {
        this.#ready.push({ bytes: Uint8Array.from(bytes.subarray(at)), buffer: undefined });
        return;
      }
      const piece = bytes.subarray(at, at + room.length);
      room.set(piece);
      this.#filled += piece.length;
      at += piece.length;
      if (piece.length === room.length) this.#flush();
    }
  }

  /** From the parser, which made a copy. */
  #pass(bytes: Buffer): void {
    this.#left -= bytes.length;
    this.#ready.push({ bytes, buffer: undefined });
    this.#wake?.();
    this.#paused = true;
    if (this.#left > 0) this.#message.pause();
  }

  #flush(): void {
    if (!this.#current || this.#filled === 0) return;
    this.#ready.push({ bytes: this.#current.subarray(0, this.#filled), buffer: this.#current });
    this.#current = this.#free.pop();
    this.#filled = 0;
  }

  /** Whether to read on: only where a full buffer can be followed by another, so that nothing has to be copied. */
  get #wanted(): boolean {
    return this.#left > 0 && this.#current !== undefined && (this.#ready.length === 0 || this.#free.length > 0);
  }

  #resume(): void {
    if (!this.#paused || this.#ended) return;
    if (!this.#taken) this.#message.resume();
    else if (this.#wanted) this.#message.socket.resume();
    else return;
    this.#paused = false;
  }

  async #more(limitMs: number): Promise<void> {
    const timer = setTimeout(() => {
      this.#end();
      this.#message.destroy();
    }, limitMs);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
    clearTimeout(timer);
  }

  #end(): void {
    this.#ended = true;
    this.#wake?.();
  }
}
