import type { Queries } from './connect.js';

/** As many as one statement looks up. */
const MAX_KEYS = 64;
/** Statements under way at a time; what comes meanwhile is gathered for the next one. */
const MAX_RUNNING = 2;

interface Wanted<Row> {
  readonly key: readonly string[];
  readonly resolve: (row: Row | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Look-ups of one kind, of which those that come together are answered by one statement. It begins after all of them came,
 * so each sees what was committed before it was asked. A look-up that comes alone waits for nobody.
 */
export class GatheredLookups<Row extends object> {
  readonly #queries: Queries;
  readonly #text: string;
  #wanted: Wanted<Row>[] = [];
  #running = 0;
  #scheduled = false;

  /**
   * @param text takes an array for each part of the key, in order, and gives a row for each key that is found, with `n`, the
   *   place of the key, from 1 on.
   */
  constructor(queries: Queries, text: string) {
    this.#queries = queries;
    this.#text = text;
  }

  /** The row of a key, if there is one. @throws as Queries.query */
  find(...key: readonly string[]): Promise<Row | undefined> {
    return new Promise((resolve, reject) => {
      this.#wanted.push({ key, resolve, reject });
      this.#schedule();
    });
  }

  /** After all sockets that have something were read. */
  #schedule(): void {
    if (this.#scheduled || this.#running >= MAX_RUNNING || this.#wanted.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const wanted = this.#wanted.splice(0, MAX_KEYS);
      this.#running += 1;
      void this.#look(wanted).finally(() => {
        this.#running -= 1;
        this.#schedule();
      });
      this.#schedule();
    });
  }

  async #look(wanted: readonly Wanted<Row>[]): Promise<void> {
    try {
      const parts = wanted[0]?.key.map((_part, index) => wanted.map(({ key }) => key[index]));
      const rows = await this.#queries.query<Row & { n: number }>(this.#text, parts);
      const found = new Map(rows.map((row) => [row.n, row]));
      for (const [index, { resolve }] of wanted.entries()) resolve(found.get(index + 1));
    } catch (error) {
      for (const { reject } of wanted) reject(error);
    }
  }
}
