import { createHmac, randomBytes } from 'node:crypto';
import { compare, hash } from 'bcrypt';
import { RegistryError } from '../errors.js';
import type { KeyRow, KeyRows } from './key-rows.js';
import { MAX_SECRET_BYTES, parseKey } from './key-text.js';
import type { Throttle } from './throttle.js';

const REMEMBER_MS = 60_000;
const MAX_REMEMBERED = 10_000;
const MAX_QUEUE = 64;
/** Longer than a full queue takes: whoever waits for so long waits for threads that hang with the disk. */
const PATIENCE_MS = 30_000;

/** What became of the checks of this process, for the operator. */
export interface KeyStatistics {
  /** Secrets that went through bcrypt. */
  readonly checks: number;
  /** Answers from memory. */
  readonly hits: number;
  readonly misses: number;
  /** Attempts that failed, of any kind, also with forged tokens. */
  readonly failures: number;
  /** Attempts that were answered 429. */
  readonly refused: number;
  /** How many wait for bcrypt now. */
  readonly waiting: number;
}

/** Whether a text is the secret of the key with this hash. */
interface Verdict {
  readonly hash: string;
  readonly good: boolean;
  readonly until: number;
}

/**
 * Checks the secrets of keys. bcrypt shares libuv's threads with the disk, so one check runs at a time, the queue is
 * bounded, and what passed or failed is remembered for a minute under a keyed hash that only this process can make.
 */
export class KeyCheck {
  readonly #rows: KeyRows;
  readonly #throttle: Throttle;
  readonly #pepper = randomBytes(32);
  readonly #verdicts = new Map<string, Verdict>();
  readonly #running = new Map<string, Promise<KeyRow>>();
  #turn: Promise<unknown> = Promise.resolve();
  readonly #counts = { checks: 0, hits: 0, misses: 0, refused: 0, waiting: 0 };

  constructor(rows: KeyRows, throttle: Throttle) {
    this.#rows = rows;
    this.#throttle = throttle;
  }

  statistics(): KeyStatistics {
    const { failures, refused } = this.#throttle;
    return { ...this.#counts, failures, refused: this.#counts.refused + refused };
  }

  /**
   * @param address of the client; failures count for it.
   * @throws 'Unauthorized' if the text is no key; 'TooManyRequests' if the address failed too often or too many wait.
   */
  async check(text: string, address: string): Promise<KeyRow> {
    const { id, secret } = parseKey(text);
    if (Buffer.byteLength(secret) > MAX_SECRET_BYTES) throw await this.#failed(id, address);
    const fingerprint = createHmac('sha256', this.#pepper).update(text).digest('base64');
    const verdict = this.#verdicts.get(fingerprint);
    if (verdict && verdict.until > performance.now()) {
      const row = await this.#rows.find(id);
      if (row && row.hash === verdict.hash) {
        this.#counts.hits += 1;
        if (verdict.good) return row;
        throw await this.#failed(id, address);
      }
    }
    this.#counts.misses += 1;
    // Many at once with one key, as when a cluster starts, are one check.
    const running = this.#running.get(fingerprint);
    if (running) return await running;
    const mine = this.#compare(id, secret, fingerprint, address).finally(() => this.#running.delete(fingerprint));
    this.#running.set(fingerprint, mine);
    return await mine;
  }

  /** Hashes the secret of a new key, in turn with the checks. `cost` is bcrypt's. @throws 'TooManyRequests' */
  async hash(secret: string, cost: number): Promise<string> {
    return await this.#inTurn(() => {
      this.#counts.checks += 1;
      return hash(secret, cost);
    });
  }

  async #compare(id: string, secret: string, fingerprint: string, address: string): Promise<KeyRow> {
    await this.#throttle.refuseGuesser(address, id);
    const row = await this.#rows.find(id);
    if (!row) throw await this.#failed(id, address);
    await this.#inTurn(async () => {
      // Once more: of a hundred attempts at once those before this one may have failed too often by now.
      await this.#throttle.refuseGuesser(address, id);
      this.#counts.checks += 1;
      const good = await compare(secret, row.hash);
      this.#remember(fingerprint, { hash: row.hash, good, until: performance.now() + REMEMBER_MS });
      if (!good) throw await this.#failed(id, address);
    });
    // It may have been revoked in the meantime.
    const now = await this.#rows.find(id);
    if (!now || now.hash !== row.hash) throw await this.#failed(id, address);
    return now;
  }

  /** Counts an attempt that failed. @returns what it is answered. */
  async #failed(id: string, address: string): Promise<RegistryError> {
    return await this.#throttle.failed(address, id, new RegistryError('Unauthorized', 'this key is not known'));
  }

  #remember(fingerprint: string, verdict: Verdict): void {
    this.#verdicts.delete(fingerprint);
    this.#verdicts.set(fingerprint, verdict);
    const oldest = this.#verdicts.keys().next().value;
    if (this.#verdicts.size > MAX_REMEMBERED && oldest !== undefined) this.#verdicts.delete(oldest);
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#counts.waiting >= MAX_QUEUE) {
      this.#counts.refused += 1;
      throw new RegistryError('TooManyRequests', 'too many keys wait to be checked or made', { retryAfter: 1 });
    }
    this.#counts.waiting += 1;
    const mine = this.#turn.then(work).finally(() => {
      this.#counts.waiting -= 1;
    });
    this.#turn = mine.catch(() => undefined);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      const error = new RegistryError('Unavailable', 'keys can not be checked at the moment', { retryAfter: 5 });
      timer = setTimeout(() => reject(error), PATIENCE_MS);
    });
    return await Promise.race([mine, late]).finally(() => clearTimeout(timer));
  }
}
