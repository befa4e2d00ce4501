import type { Queries } from '../database/connect.js';
import type { BlobFault } from '../gc/inspector.js';
import type { ManifestFault } from '../gc/manifest-digests.js';
import type { Damage } from '../gc/scrub-look.js';
import type { Pass, PassCounts } from '../gc/scrub-passes.js';
import { releasesWith } from '../metadata/affected.js';
import type { Digest } from '../oci/digest.js';
import type { ScrubbingObserver } from './scrubbing.js';

/** What a run came to; of a pass that went on from an earlier run, all of it. */
export interface Summary extends PassCounts {
  /** When the pass began, if it is one. */
  readonly since?: Date;
  /** Blobs of the whole registry that are quarantined now. */
  readonly quarantined: number;
  /** Objects that nothing names, if they were counted. */
  readonly unnamed: number | undefined;
}

export interface FsckReportOptions {
  readonly queries: Queries;
  /** Whether it is lines of JSON, or words. */
  readonly json: boolean;
  readonly print: (text: string) => void;
}

/** Prints what is found as it is found. */
export class FsckReport implements ScrubbingObserver {
  readonly #options: FsckReportOptions;

  constructor(options: FsckReportOptions) {
    this.#options = options;
  }

  read(): void {}
  looked(): void {}
  healed(): void {}

  begin({ at, blobs, startedAt }: Pass): void {
    if (at !== '' && !this.#options.json)
      this.#options.print(`going on behind ${at}, after ${blobs} blobs since ${startedAt.toISOString()}\n`);
  }

  async fault(fault: BlobFault): Promise<void> {
    const { digest, size, damage, repositories, healed, isNew } = fault;
    const releases = await releasesWith(this.#options.queries, digest);
    const state = healed ? 'healed' : isNew ? 'quarantined' : 'quarantined before';
    if (this.#options.json) {
      this.#line({ fault: damage?.kind ?? 'restored', state, digest, size, ...damage, repositories, releases });
      return;
    }
    const where = [`in ${repositories.join(', ') || 'no repository'}`];
    if (releases.length > 0) where.push(`releases ${releases.join(', ')}`);
    this.#options.print(`${state.toUpperCase()}  ${digest}  ${describe(damage)}; ${where.join('; ')}\n`);
  }

  manifest({ repository, digest, found }: ManifestFault): void {
    if (this.#options.json) this.#line({ fault: 'manifest', repository, digest, found });
    else this.#options.print(`DAMAGED  manifest ${digest} in ${repository}: its payload has the digest ${found}\n`);
  }

  unread(digest: Digest, error: unknown): void {
    const why = String((error as Error).cause ?? error);
    if (this.#options.json) this.#line({ fault: 'unread', digest, why });
    else this.#options.print(`UNREAD  ${digest}: ${why}\n`);
  }

  sum(summary: Summary): void {
    if (this.#options.json) {
      this.#line({ summary });
      return;
    }
    const { since, ...counts } = summary;
    if (since) this.#options.print(`since        ${since.toISOString()}\n`);
    for (const [name, count] of Object.entries(counts))
      if (count !== undefined) this.#options.print(`${name.padEnd(11)}  ${count}\n`);
  }

  #line(object: object): void {
    this.#options.print(`${JSON.stringify(object)}\n`);
  }
}

function describe(damage: Damage | undefined): string {
  switch (damage?.kind) {
    case undefined:
      return 'its bytes are right again';
    case 'missing':
      return `${damage.key} is missing, ${damage.wanted} bytes wanted`;
    case 'short':
      return `${damage.key} has ${damage.found} bytes, ${damage.wanted} wanted`;
    case 'rows':
      return `its segments have ${damage.found} bytes, ${damage.wanted} wanted`;
    case 'digest':
      return `its bytes have the digest ${damage.found}`;
  }
}
