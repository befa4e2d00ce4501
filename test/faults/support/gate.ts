/** Holds clients back while the registry is down, and tells when all of them wait. */
export class Gate {
  #closed = false;
  #clients = 0;
  #waiting: (() => void)[] = [];
  #watchers: (() => void)[] = [];

  close(): void {
    this.#closed = true;
  }

  open(): void {
    this.#closed = false;
    for (const go of this.#waiting.splice(0)) go();
  }

  /** Returns when the gate is open. */
  async pass(): Promise<void> {
    while (this.#closed) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        this.#tell();
      });
    }
  }

  /** Runs a client, which counts among those that `allWait` waits for. */
  async client(work: () => Promise<void>): Promise<void> {
    this.#clients += 1;
    try {
      await work();
    } finally {
      this.#clients -= 1;
      this.#tell();
    }
  }

  /** Resolves when every client waits before the closed gate or has ended. */
  async allWait(): Promise<void> {
    while (this.#waiting.length < this.#clients) await new Promise<void>((resolve) => this.#watchers.push(resolve));
  }

  #tell(): void {
    for (const look of this.#watchers.splice(0)) look();
  }
}
