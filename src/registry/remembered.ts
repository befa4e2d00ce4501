import { setTimeout as sleep } from 'node:timers/promises';
import { afterCommit, type Queries } from '../database/connect.js';

/** How long what was read is given out again without asking, in milliseconds. The same on every node, so no setting. */
export const REMEMBER_MS = 50;
/** After this nobody gives out what was read before, whatever two clocks make of 50 ms. */
const FORGOTTEN_MS = REMEMBER_MS + 10;
/** What a process remembers at most: answers, and bytes of manifests in them. */
const MAX_ANSWERS = 1_000;
const MAX_BYTES = 8 * 1024 * 1024;

/** Milliseconds by the monotonic clock, which stands still while a machine is suspended, and by the wall's, which may be set. */
export interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

export interface RememberedOptions<T> {
  /** The bytes that a value holds, where they matter. */
  readonly sizeOf?: (value: T) => number;
  readonly now?: () => Moment;
}

interface Answer<T> {
  /** From before it was asked for. */
  readonly since: Moment;
  readonly value: Promise<T>;
  /** Bytes that it holds, known once it is there. */
  size: number;
}

/**
 * Answers of PostgreSQL that many ask for at once, given out again for 50 ms from before they were read. Whoever takes
 * something away that may be remembered waits for as long after his COMMIT, before he says so (`outlast`): then a read
 * that begins after the answer to a write sees the write, on every process and node, and nobody has to be told. What was
 * not there is never remembered, so whoever adds something waits for nobody.
 */
export class Remembered<T> {
  /** The oldest first. */
  readonly #answers = new Map<string, Answer<T>>();
  readonly #sizeOf: (value: T) => number;
  readonly #now: () => Moment;
  #bytes = 0;

  constructor({ sizeOf = () => 0, now = thisMoment }: RememberedOptions<T> = {}) {
    this.#sizeOf = sizeOf;
    this.#now = now;
  }

  /** The value, as it was 50 ms before the call at the earliest. @throws what `load` throws, which is not remembered. */
  async get(key: string, load: () => Promise<T>): Promise<T> {
    const arrived = this.#now().monotonic;
    for (;;) {
      const answer = this.#fresh(key) ?? this.#ask(key, load);
      try {
        return await answer.value;
      } catch (error) {
        // Of what was asked for before this call, only what is there can be believed.
        if (answer.since.monotonic >= arrived) throw error;
      }
    }
  }

  #fresh(key: string): Answer<T> | undefined {
    const answer = this.#answers.get(key);
    if (!answer) return undefined;
    const { monotonic, wall } = this.#now();
    const ages = [monotonic - answer.since.monotonic, wall - answer.since.wall];
    return ages.every((age) => age >= 0 && age < REMEMBER_MS) ? answer : undefined;
  }

  #ask(key: string, load: () => Promise<T>): Answer<T> {
    const answer: Answer<T> = { since: this.#now(), value: load(), size: 0 };
    this.#forget(key, this.#answers.get(key));
    this.#answers.set(key, answer);
    answer.value.then(
      (value) => this.#weigh(key, answer, this.#sizeOf(value)),
      () => this.#forget(key, answer),
    );
    return answer;
  }

  #weigh(key: string, answer: Answer<T>, size: number): void {
    if (this.#answers.get(key) !== answer) return;
    answer.size = size;
    this.#bytes += size;
    for (const [oldest, other] of this.#answers) {
      if (this.#answers.size <= MAX_ANSWERS && this.#bytes <= MAX_BYTES) return;
      this.#forget(oldest, other);
    }
  }

  #forget(key: string, answer: Answer<T> | undefined): void {
    if (!answer || this.#answers.get(key) !== answer) return;
    this.#answers.delete(key);
    this.#bytes -= answer.size;
  }
}

function thisMoment(): Moment {
  return { monotonic: performance.now(), wall: Date.now() };
}

/** For transactions that take away, or change, what a read may have remembered: their caller hears of it when nobody does. */
export function outlast(transaction: Queries): void {
  afterCommit(transaction, untilForgotten);
}

async function untilForgotten(): Promise<void> {
  await sleep(FORGOTTEN_MS);
}
