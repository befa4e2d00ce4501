import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { passedBytes } from '../../garbage.js';
import type { S3Bucket } from './bucket.js';
import { isAnswer, S3Error, storageFailure } from './failures.js';

/** Connections that may break one after the other without a byte between them. */
const MAX_BREAKS = 3;

/**
 * A range of an object that is there and long enough. When the connection breaks, or no byte comes for as long as a
 * request may take, the rest is asked for again: an object never changes.
 */
export class S3Range extends Readable {
  #body: IncomingMessage | undefined;
  #timer: NodeJS.Timeout | undefined;
  #breaks = 0;

  constructor(
    readonly bucket: S3Bucket,
    readonly key: string,
    /** The first byte that is still to come. */
    private at: number,
    readonly end: number,
    first: IncomingMessage,
    /** What an answer of S3 that can't be waited for means. */
    readonly failure: (error: unknown) => Error,
    /** How much it reads ahead of its reader; what is read at once comes on top. */
    aheadBytes: number,
  ) {
    super({ highWaterMark: aheadBytes });
    this.#attach(first);
  }

  override _read(): void {
    if (!this.#body) return;
    this.#watch();
    this.#body.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#timer);
    this.#body?.destroy();
    done(error);
  }

  #attach(body: IncomingMessage): void {
    this.#body = body;
    body.on('data', (bytes: Buffer) => this.#receive(body, bytes));
    body.pause();
    body.once('error', () => undefined);
    body.once('close', () => {
      if (this.#body === body && this.at < this.end) this.#ask();
    });
  }

  #receive(body: IncomingMessage, bytes: Buffer): void {
    if (this.#body !== body) return;
    clearTimeout(this.#timer);
    this.#breaks = 0;
    this.at += bytes.length;
    passedBytes(bytes.length);
    if (this.at > this.end) {
      this.destroy(storageFailure(new Error(`${this.key}: more bytes came than were asked for`)));
      return;
    }
    const more = this.push(bytes);
    if (this.at === this.end) this.push(null);
    else if (more) this.#watch();
    else body.pause();
  }

  #watch(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#body?.destroy(), this.bucket.limitMs);
  }

  #ask(): void {
    clearTimeout(this.#timer);
    this.#body = undefined;
    if (this.destroyed) return;
    this.#breaks += 1;
    if (this.#breaks > MAX_BREAKS) {
      const broken = new S3Error('GET', 'again', 'Broken', undefined, `no byte of ${this.key} comes after ${this.at}`);
      this.destroy(storageFailure(broken));
      return;
    }
    this.bucket.get(this.key, this.at, this.end).then(
      ({ body }) => {
        if (this.destroyed) {
          body.destroy();
          return;
        }
        this.#attach(body);
        this._read();
      },
      (error: unknown) =>
        this.destroy(isAnswer(error, 'missing', 'range') ? this.failure(error) : storageFailure(error)),
    );
  }
}
