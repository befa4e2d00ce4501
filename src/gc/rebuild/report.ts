/** What there is to count of a kind: named in records, made now, there before, taken away as the records say. */
export interface Counts {
  recorded: number;
  made: number;
  there: number;
  removed: number;
  missing: number;
}

export type Counted = 'blobs' | 'links' | 'manifests' | 'tags';

/** What a rebuild found and did. */
export class RebuildReport {
  /** Of the records themselves. */
  files = 0;
  lines = 0;
  readonly counts: Record<Counted, Counts> = { blobs: zero(), links: zero(), manifests: zero(), tags: zero() };
  /** Objects that no row and no record named, by what became of them. */
  readonly objects = { found: 0, hashed: 0, bytes: 0, matched: 0, kept: 0, known: 0, unfinished: 0, left: 0 };
  /** Why a blob that is wanted could not be made from its record. */
  readonly reasons = new Map<string, string>();
  /** Each says what does not come back, and why. */
  readonly faults: string[] = [];
  /** Each says what an operator should know. */
  readonly notes: string[] = [];
  readonly #told: (line: string) => void;
  #toldAt = performance.now();

  /** @param told hears of the progress, now and then */
  constructor(told: (line: string) => void) {
    this.#told = told;
  }

  /** Says how far it is, at most every two seconds. */
  progress(line: () => string): void {
    if (performance.now() - this.#toldAt < 2_000) return;
    this.#toldAt = performance.now();
    this.#told(line());
  }

  step(line: string): void {
    this.#told(line);
  }

  fault(line: string): void {
    this.faults.push(line);
    this.#told(`FAULT  ${line}`);
  }
}

function zero(): Counts {
  return { recorded: 0, made: 0, there: 0, removed: 0, missing: 0 };
}
