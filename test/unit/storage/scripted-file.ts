import type { AppendFile } from '../../../src/storage/durable-file.js';

export interface Call {
  readonly what: 'write' | 'sync' | 'close';
  readonly position: number;
  /** Lets the operation end; with an error, fails it. */
  end(error?: Error): void;
}

/** A file in memory whose operations end when the test says so, or at once. */
export class ScriptedFile implements AppendFile {
  bytes = Buffer.alloc(0);
  readonly calls: Call[] = [];
  /** Operations that are under way. */
  readonly open = new Set<Call>();
  manual = false;
  /** The most that one write takes. */
  helping = Number.POSITIVE_INFINITY;
  mostSyncs = 0;
  closedBusy = false;

  readonly writev = (async (buffers: readonly Uint8Array[], position: number) => ({
    bytesWritten: await this.#put(Buffer.concat(buffers), position),
    buffers,
  })) as AppendFile['writev'];

  readonly write = (async (buffer: Buffer, offset: number, length: number, position: number) => ({
    bytesWritten: await this.#put(buffer.subarray(offset, offset + length), position),
    buffer,
  })) as AppendFile['write'];

  async #put(wanted: Buffer, position: number): Promise<number> {
    const taken = wanted.subarray(0, this.helping);
    await this.#run('write', position);
    if (this.bytes.length < position + taken.length) {
      const longer = Buffer.alloc(Math.max(position + taken.length, this.bytes.length * 2));
      this.bytes.copy(longer);
      this.bytes = longer;
    }
    taken.copy(this.bytes, position);
    return taken.length;
  }

  async datasync(): Promise<void> {
    const running = this.#run('sync', 0);
    this.mostSyncs = Math.max(this.mostSyncs, [...this.open].filter((call) => call.what === 'sync').length);
    await running;
  }

  async close(): Promise<void> {
    this.closedBusy = this.open.size > 0;
    this.calls.push({ what: 'close', position: 0, end: () => undefined });
  }

  #run(what: Call['what'], position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const call: Call = {
        what,
        position,
        end: (error) => {
          this.open.delete(call);
          if (error) reject(error);
          else resolve();
        },
      };
      this.calls.push(call);
      this.open.add(call);
      if (!this.manual) setImmediate(() => call.end());
    });
  }

  what(): string[] {
    return this.calls.map((call) => call.what);
  }
}
