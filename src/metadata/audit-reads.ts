import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import { insertRows } from '../database/insert.js';
import type { Log } from '../log.js';
import { type AuditEntry, auditRows } from './audit.js';

/** A pull, as it is to be written down. */
export interface Read {
  readonly actor: Actor;
  readonly what: 'manifest' | 'blob';
  readonly digest: string;
  /** How it was asked for, which part of it, how many bytes. */
  readonly details: Readonly<Record<string, unknown>>;
}

/** Told of reads; costs nothing where they are not recorded, and never makes anybody wait. */
export interface ReadObserver {
  note(repository: string, read: () => Read): void;
}

export interface AuditedReadsOptions {
  readonly queries: Queries;
  /** Whether the reads of a repository, by its name, are recorded. */
  readonly covers: (repository: string) => boolean;
  readonly log: Log;
  /** How many reads wait at most for the next writing; beyond it the oldest are dropped, and counted. */
  readonly capacity?: number;
}

interface Waiting {
  readonly actor: Actor;
  readonly entry: AuditEntry;
}

/** Some megabytes, and more than a process answers in the time between two writings. */
const CAPACITY = 10_000;
const FLUSH_MS = 2_000;
const REGISTRY: Actor = { key: 'registry', name: 'registry', address: '', userAgent: '', requestId: '' };

/**
 * Reads of chosen repositories, kept in memory until they are written to the record, a second or two later and many at
 * once. What a process has not written when it is killed is lost; what could not be written is tried again.
 */
export class AuditedReads implements ReadObserver {
  readonly #options: AuditedReadsOptions;
  readonly #capacity: number;
  readonly #timer: NodeJS.Timeout;
  #waiting: Waiting[] = [];
  #lost = 0;
  #flushing: Promise<void> = Promise.resolve();

  constructor(options: AuditedReadsOptions) {
    this.#options = options;
    this.#capacity = options.capacity ?? CAPACITY;
    this.#timer = setInterval(() => void this.flush(), FLUSH_MS);
    this.#timer.unref();
  }

  note(repository: string, read: () => Read): void {
    if (!this.#options.covers(repository)) return;
    const { actor, what, digest, details } = read();
    const entry = {
      action: `${what}.pull`,
      resourceType: what,
      resourceId: digest,
      repository,
      details: { ...details, at: new Date().toISOString() },
    };
    this.#waiting.push({ actor, entry });
    this.#drop();
  }

  /** Writes what waits, after a writing that is under way. Failures are logged. */
  async flush(): Promise<void> {
    this.#flushing = this.#flushing.then(() => this.#write());
    await this.#flushing;
  }

  /** Writes the last ones. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }

  async #write(): Promise<void> {
    const [written, lost] = [this.#waiting, this.#lost];
    if (written.length === 0 && lost === 0) return;
    this.#waiting = [];
    this.#lost = 0;
    const loss = { action: 'reads.lost', resourceType: 'reads', resourceId: '*', details: { lost } };
    const rows = lost === 0 ? written : [{ actor: REGISTRY, entry: loss }, ...written];
    try {
      await insertRows(this.#options.queries, [auditRows(rows)]);
    } catch (error) {
      this.#options.log.warn({ err: error, reads: written.length }, 'reads could not be written to the audit log yet');
      // Should they be there all the same, they are there twice, with the same request ids.
      this.#waiting = [...written, ...this.#waiting];
      this.#lost += lost;
      this.#drop();
    }
  }

  #drop(): void {
    const excess = this.#waiting.length - this.#capacity;
    if (excess <= 0) return;
    // By tenths: to move all others up for each single one would slow the pulls.
    const dropped = Math.max(excess, Math.ceil(this.#capacity / 10));
    this.#waiting.splice(0, dropped);
    this.#lost += dropped;
  }
}
