/** As much as is read from a connection at once, and written by one call. */
export const ARRIVAL_BYTES = 256 * 1024;
/** Kept for later; an idle process should be small. */
const MAX_SPARE = 32;

const spare: Buffer[] = [];
const lent = new WeakMap<ArrayBufferLike, Buffer>();

/**
 * A buffer for bytes that arrive, often one that was used before: fresh memory would be zeroed by the kernel page by page,
 * and collected. Bytes in it are passed on as one piece; who is the last to need that piece gives it to `recycle`.
 */
export function arrivalBuffer(): Buffer {
  const buffer = spare.pop() ?? Buffer.allocUnsafeSlow(ARRIVAL_BYTES);
  lent.set(buffer.buffer, buffer);
  return buffer;
}

/**
 * Lets the memory of a piece be used again, if it came from `arrivalBuffer`; others are left alone. Nobody may read the piece
 * any more. Not to call it is no harm: the memory becomes garbage.
 */
export function recycle(piece: Uint8Array): void {
  const buffer = lent.get(piece.buffer);
  if (!buffer) return;
  lent.delete(piece.buffer);
  if (spare.length < MAX_SPARE) spare.push(buffer);
}
