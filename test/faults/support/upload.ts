import { setTimeout as sleep } from 'node:timers/promises';
import type { Content } from './bytes.js';
import { type Answer, Exchange, send } from './exchange.js';
import type { Gate } from './gate.js';

const PIECE = 64 * 1024;
const PATIENCE_MS = 180_000;
const MAX_PAUSE_MS = 2_000;

/** What all uploads of a test have in common. */
export interface Traffic {
  readonly host: string;
  readonly gate: Gate;
  /** Called at each 202 and 201, before anything else happens. */
  acknowledged(): void;
}

/** A client's upload, which remembers what it sent and what it was told. A broken promise is an Error. */
export class Upload {
  #path: string | undefined;
  /** What the registry last told, by 202 or status: bytes up to here are its responsibility. */
  told = 0;
  /** The end of what was ever handed to a socket. */
  reached = 0;
  /** Whether a request that ends the upload was ever sent: then it may have been committed, unheard. */
  attempted = false;
  committed = false;
  /** Whether an answer that tells an offset was lost, so that ours may not be the one that the registry told last. */
  unsure = false;
  readonly #began = performance.now();

  constructor(
    readonly traffic: Traffic,
    readonly repository: string,
    readonly content: Content,
  ) {}

  get path(): string {
    if (this.#path === undefined) throw new Error('the upload has not begun');
    return this.#path;
  }

  get begun(): boolean {
    return this.#path !== undefined;
  }

  get blobPath(): string {
    return `/v2/${this.repository}/blobs/${this.content.digest}`;
  }

  async begin(): Promise<void> {
    for (;;) {
      await this.traffic.gate.pass();
      const answer = await send(this.traffic.host, 'POST', `/v2/${this.repository}/blobs/uploads/`);
      if (answer?.status === 202) {
        this.#path = answer.headers.location ?? '';
        this.traffic.acknowledged();
        return;
      }
      await this.breathe(answer);
    }
  }

  /** Asks how far it is. @returns undefined if the session is over. */
  async status(): Promise<number | undefined> {
    for (;;) {
      await this.traffic.gate.pass();
      const offset = await this.tryStatus();
      if (offset !== 'lost') return offset;
    }
  }

  /** Asks once, also while the gate is closed. */
  async tryStatus(): Promise<number | undefined | 'lost'> {
    this.unsure = true;
    const answer = await send(this.traffic.host, 'GET', this.path);
    if (answer?.status === 204) {
      const offset = this.#offsetOf(answer);
      if (offset < this.told) throw this.fault(`stands at ${offset}, after ${this.told} was told`);
      if (offset > this.reached) throw this.fault(`stands at ${offset}, but only ${this.reached} were sent`);
      this.told = offset;
      this.unsure = false;
      return offset;
    }
    if (answer?.status === 404 && this.attempted) return undefined;
    await this.breathe(answer);
    return 'lost';
  }

  /** PATCH of [told, end). @returns the answer if it is not the 202 that was wanted, undefined for none. */
  async patch(end: number, options: { ranged?: boolean; pauseMs?: number } = {}): Promise<Answer | 'done' | undefined> {
    const start = this.told;
    const headers = options.ranged
      ? { 'content-range': `${start}-${end - 1}`, 'content-length': end - start }
      : { 'transfer-encoding': 'chunked' };
    this.unsure = true;
    const answer = await this.#stream('PATCH', this.path, headers, end, options.pauseMs);
    if (answer?.status !== 202) return answer;
    const offset = this.#offsetOf(answer);
    if (offset !== end) throw this.fault(`told ${offset} after a PATCH up to ${end}`);
    this.told = offset;
    this.unsure = false;
    this.traffic.acknowledged();
    return 'done';
  }

  /** The final PUT, with all from `told` on or with nothing. */
  async put(
    options: { ranged?: boolean; empty?: boolean; pauseMs?: number } = {},
  ): Promise<Answer | 'done' | undefined> {
    const { size, digest } = this.content;
    const bytes = options.empty ? 0 : size - this.told;
    const range = options.ranged && bytes > 0 ? { 'content-range': `${this.told}-${size - 1}` } : {};
    this.attempted = true;
    const end = options.empty ? this.told : size;
    const path = `${this.path}?digest=${digest}`;
    const answer = await this.#stream('PUT', path, { 'content-length': bytes, ...range }, end, options.pauseMs);
    if (answer?.status !== 201) return answer;
    if (answer.headers['docker-content-digest'] !== digest) throw this.fault('a 201 for another digest');
    this.committed = true;
    this.traffic.acknowledged();
    return 'done';
  }

  async #stream(
    method: string,
    path: string,
    headers: Record<string, string | number>,
    end: number,
    pauseMs = 0,
  ): Promise<Answer | undefined> {
    const exchange = new Exchange(this.traffic.host, method, path, headers);
    let at = this.told;
    for (const piece of this.content.chunks(at, end, PIECE)) {
      at += piece.length;
      this.reached = Math.max(this.reached, at);
      if (!(await exchange.write(piece))) break;
      if (pauseMs > 0) await sleep(pauseMs);
    }
    exchange.end();
    return await exchange.answer;
  }

  /**
   * Goes on after a break, as a client would, until the 201: asks how far it is and sends the rest, or, without asking,
   * sends all from what it knows.
   */
  async finish(ask: () => boolean = () => true): Promise<void> {
    if (!this.begun) await this.begin();
    while (!this.committed) {
      await this.traffic.gate.pass();
      if (this.unsure || ask()) {
        // Over without a word to us: only a commit can have ended it, and that can be repeated.
        if ((await this.status()) === undefined) {
          const again = await this.#repeat();
          if (again === 'done') return;
          await this.breathe(again);
          continue;
        }
      }
      const answer = await this.put();
      if (answer !== 'done') await this.breathe(answer);
    }
  }

  async #repeat(): Promise<Answer | 'done' | undefined> {
    await this.traffic.gate.pass();
    const answer = await send(this.traffic.host, 'PUT', `${this.path}?digest=${this.content.digest}`);
    if (answer?.status !== 201) return answer;
    this.committed = true;
    this.traffic.acknowledged();
    return 'done';
  }

  /** Judges an answer that was not hoped for: none and 503 are to be tried again, after a while. */
  async breathe(answer: Answer | undefined): Promise<void> {
    if (answer && answer.status !== 503) throw this.fault(`got ${answer.status} ${answer.body.toString()}`);
    if (answer && answer.headers['retry-after'] === undefined) throw this.fault('got a 503 without Retry-After');
    if (performance.now() - this.#began > PATIENCE_MS) {
      throw this.fault(
        `did not get on in time; the last answer was ${answer ? `${answer.status} ${answer.body.toString()}` : 'none'}`,
      );
    }
    await sleep(Math.min(Number(answer?.headers['retry-after'] ?? 0) * 1000 || 20, MAX_PAUSE_MS));
  }

  #offsetOf(answer: Answer): number {
    const offset = Number(answer.headers['upload-offset']);
    const range = `0-${Math.max(offset - 1, 0)}`;
    if (!Number.isSafeInteger(offset) || answer.headers.range !== range)
      throw this.fault(`was told Range ${answer.headers.range} and Upload-Offset ${answer.headers['upload-offset']}`);
    return offset;
  }

  fault(what: string): Error {
    return new Error(`the upload ${this.#path ?? 'that has not begun'} of ${this.content.size} bytes ${what}`);
  }
}
