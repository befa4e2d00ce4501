import type { Actor } from '../actor.js';
import type { Database, Queries } from '../database/connect.js';
import type { Change } from '../registry/changes.js';
import { type Answer, changeOnce, findAnswer, type Repeatable } from './idempotency.js';

/** Notes changes of tags and manifests that came through the metadata API for the records beside the bytes. */
export type Recorder = (change: Change, actor: Actor, transaction: Queries) => Promise<void>;

/** Where the verbs of the metadata API run: a door holds no connection, and chooses only which verb. */
export class Metadata {
  readonly #database: Database;
  readonly record: Recorder;

  constructor(database: Database, record: Recorder) {
    this.#database = database;
    this.record = record;
  }

  /** Runs what only reads; several statements need not see the same moment. */
  async read<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return await work(this.#database);
  }

  /** Runs what changes something, in one transaction, once for an Idempotency-Key. */
  async change(
    request: Repeatable | undefined,
    work: (transaction: Queries) => Promise<Answer>,
    secretless?: (answer: Answer) => Answer,
  ): Promise<Answer> {
    return await changeOnce(this.#database, request, work, secretless);
  }

  /** The answer that an earlier request under the same Idempotency-Key got. */
  async findAnswer(request: Repeatable | undefined): Promise<Answer | undefined> {
    return request && (await findAnswer(this.#database, request));
  }
}
