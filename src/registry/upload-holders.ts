import type { Queries } from '../database/connect.js';
import { isFailure } from '../errors.js';
import { takenUpload } from './upload-errors.js';
import type { TakenSession } from './upload-sessions.js';

/** The requests of this process that hold a session, so that whoever takes it stops them at once. */
export class UploadHolders {
  readonly #queries: Queries;
  readonly #holders = new Map<string, { epoch: number; controller: AbortController }>();

  constructor(queries: Queries) {
    this.#queries = queries;
  }

  /** Stops the request of this process that holds the session in an epoch before `epoch`, if there is one. */
  oust(id: string, epoch: number): void {
    const holder = this.#holders.get(id);
    if (holder && holder.epoch < epoch) holder.controller.abort(takenUpload());
  }

  /** Runs what needs the session for a while; whoever takes it aborts the controller. @throws 'UploadTaken' then */
  async hold<T>(session: TakenSession, work: (controller: AbortController) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const holder = { epoch: session.epoch, controller };
    // Two may come here in another order than they took the session in.
    if ((this.#holders.get(session.id)?.epoch ?? 0) > session.epoch) throw takenUpload();
    this.oust(session.id, session.epoch);
    this.#holders.set(session.id, holder);
    try {
      return await work(controller);
    } catch (error) {
      // To whoever still reads it a segment that the successor swallowed looks damaged; to whoever still writes it a store
      // may fail when the successor has sealed it. While the database is away nobody can say.
      const perhapsTaken = isFailure(error, 'BlobDamaged', 'Unavailable');
      if (perhapsTaken && !(await this.#isHeld(session).catch(() => true))) throw takenUpload();
      throw error;
    } finally {
      if (this.#holders.get(session.id) === holder) this.#holders.delete(session.id);
    }
  }

  async #isHeld(session: TakenSession): Promise<boolean> {
    const rows = await this.#queries.query('select from uploads where id = $1 and epoch = $2', [
      session.id,
      session.epoch,
    ]);
    return rows.length > 0;
  }
}
