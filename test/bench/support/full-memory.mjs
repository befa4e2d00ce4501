// Memory as it is where something has run for long: full of pages of files, which are taken back when they are wanted. A
// virtual machine may have given its free pages to its host; whoever gets one back waits for it, up to 1.5 s a GiB, and
// in a benchmark it hits by chance.
import { closeSync, ftruncateSync, openSync, readFileSync, readSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';

const PIECE = Buffer.alloc(8 * 1024 * 1024);
/** What the kernel keeps free for itself, and some; reading on would take pages of what is measured. */
const LEFT_FREE = 1024 * 1024 * 1024;

const freeBytes = () => Number(/^MemFree: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))[1]) * 1024;

/** Fills free memory with the pages of a file that takes no room on the disk. */
export class FullMemory {
  #file;
  #length = totalmem();
  #at = 0;

  /** @param folder in which it is made; whoever made that removes it. */
  constructor(folder) {
    this.#file = openSync(join(folder, 'pages'), 'w+');
    ftruncateSync(this.#file, this.#length);
  }

  /** Goes on where it stopped the last time: what it read longest ago was taken back first. */
  fill() {
    for (let read = 0; read < this.#length && freeBytes() > LEFT_FREE; read += PIECE.length) {
      readSync(this.#file, PIECE, 0, PIECE.length, this.#at);
      this.#at = (this.#at + PIECE.length) % this.#length;
    }
  }

  close() {
    closeSync(this.#file);
  }
}
