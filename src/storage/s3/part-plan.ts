const MiB = 1024 * 1024;

/** What S3 takes in one upload. */
export const MAX_PARTS = 10_000;
/** An object of S3. */
export const MAX_OBJECT_BYTES = 5 * 1024 * 1024 * MiB;

/** Many small parts go up side by side and are soon durable; below 5 MiB S3 takes none but the last. */
const FIRST_BYTES = 8 * MiB;
/** So a part is at most about a thousandth of all before it, and 5 TiB fits into 10,000. */
const PARTS_BEFORE_DOUBLING = 1_000;

/** The size of part `number` (from 1) in bytes; the last part of an object may be shorter. It depends on nothing else. */
export function partBytes(number: number): number {
  return FIRST_BYTES * 2 ** Math.floor((number - 1) / PARTS_BEFORE_DOUBLING);
}

/** Part as S3 lists it. */
export interface ListedPart {
  readonly number: number;
  readonly etag: string;
  readonly size: number;
}

/** How many bytes from the start the parts hold without a gap; `parts` in the order of their numbers. */
export function soundBytes(parts: readonly ListedPart[]): number {
  let bytes = 0;
  for (const [index, { number, size }] of parts.entries()) {
    const planned = partBytes(index + 1);
    if (number !== index + 1 || size > planned) break;
    bytes += size;
    // Only the last one is shorter: what follows would not be where its number says.
    if (size < planned) break;
  }
  return bytes;
}
