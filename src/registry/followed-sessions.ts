/** How often a session is looked at in which others write, at most; and one in which nobody else has written so far. */
const SHARED_MS = 50;
const OWN_MS = 500;
/** The longer nothing happens, the rarer; but more often than a follower may be silent. */
const RARE_MS = 2_000;
const RARER_BY = 1 / 8;
/** A session in which nothing happens for so long is not looked at any more. */
const IDLE_MS = 15 * 60_000;

interface Followed {
  offset: number;
  /** Whether others have written. */
  shared: boolean;
  /** When something happened last. */
  movedAt: number;
  lookAt: number;
  givenUp: boolean;
}

/** The sessions that a process follows, and when each is to be looked at: one timer for all, none while there are none. */
export class FollowedSessions {
  readonly #look: () => Promise<void>;
  readonly #ownMs: number;
  readonly #sessions = new Map<string, Followed>();
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  #stopped = false;

  /** @param look called when sessions are due; never rejects. @param ownMs see OWN_MS */
  constructor(look: () => Promise<void>, ownMs = OWN_MS) {
    this.#look = look;
    this.#ownMs = ownMs;
  }

  /** A request of this process has left the session open, or begins to read it. */
  add(id: string): void {
    if (this.isGivenUp(id)) return;
    const now = performance.now();
    const { offset, shared } = this.#sessions.get(id) ?? { offset: -1, shared: false };
    this.#sessions.set(id, { offset, shared, movedAt: now, lookAt: now + this.#pause(shared, 0), givenUp: false });
    this.#schedule();
  }

  delete(id: string): void {
    this.#sessions.delete(id);
  }

  /** The session can't be read: it is not looked at any more, and not to be followed again for a while. */
  giveUp(id: string): void {
    const followed = this.#sessions.get(id);
    if (followed) followed.givenUp = true;
  }

  isGivenUp(id: string): boolean {
    return this.#sessions.get(id)?.givenUp === true;
  }

  /** The sessions that are to be looked at now. */
  due(): string[] {
    const now = performance.now();
    const ids: string[] = [];
    for (const [id, { movedAt, lookAt, givenUp }] of this.#sessions) {
      if (now - movedAt > IDLE_MS) this.#sessions.delete(id);
      else if (!givenUp && lookAt <= now) ids.push(id);
    }
    return ids;
  }

  /** Where a session that was due stands. */
  saw(id: string, { offset, behind }: { offset: number; behind: boolean }): void {
    const followed = this.#sessions.get(id);
    if (!followed) return;
    const now = performance.now();
    if (offset !== followed.offset) followed.movedAt = now;
    followed.offset = offset;
    followed.shared ||= behind;
    followed.lookAt = now + this.#pause(followed.shared, now - followed.movedAt);
  }

  /** A part of the session was read: there may be more. */
  moved(id: string): void {
    const followed = this.#sessions.get(id);
    if (!followed) return;
    followed.movedAt = performance.now();
    followed.lookAt = followed.movedAt;
    this.#schedule();
  }

  /** @returns the sessions that were followed. */
  stop(): string[] {
    this.#stopped = true;
    clearTimeout(this.#timer);
    const ids = [...this.#sessions.keys()];
    this.#sessions.clear();
    return ids;
  }

  #pause(shared: boolean, idleMs: number): number {
    return Math.min(Math.max(idleMs * RARER_BY, shared ? Math.min(SHARED_MS, this.#ownMs) : this.#ownMs), RARE_MS);
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#stopped || this.#looking) return;
    let next = Number.POSITIVE_INFINITY;
    for (const { lookAt, givenUp } of this.#sessions.values()) if (!givenUp) next = Math.min(next, lookAt);
    if (next === Number.POSITIVE_INFINITY) return;
    const ms = Math.max(0, next - performance.now());
    this.#timer = setTimeout(() => void this.#run(), ms).unref();
  }

  async #run(): Promise<void> {
    this.#looking = true;
    await this.#look();
    this.#looking = false;
    this.#schedule();
  }
}
