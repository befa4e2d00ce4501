import { RegistryError } from '../errors.js';
import { quote } from './quote.js';

/** Bytes [start, end) of a blob: `end` is exclusive, unlike in every header, so that `end - start` is the length. */
export type ByteRange = { readonly start: number; readonly end: number };

/**
 * Reads a Range header (RFC 9110 section 14.2) for a representation of `size` bytes.
 *
 * - `'whole'`: absent, another unit, a syntax error, or more than `maxRanges` parts: answer 200 with everything.
 * - `'unsatisfiable'`: no byte of it exists, or a part is reversed (RFC 9110 would ignore it; the conformance program
 *   wants 416): answer 416 with `unsatisfiedContentRange`.
 * - ranges: non-empty, disjoint, within `size`, in the order asked; overlapping ones are merged in ascending order, so
 *   that no request makes the registry send more than `size` bytes.
 */
export function parseRangeHeader(
  header: string | undefined,
  size: number,
  maxRanges: number,
): 'whole' | 'unsatisfiable' | ByteRange[] {
  const set = header === undefined ? undefined : /^\s*bytes=(.*)$/is.exec(header)?.[1];
  if (set === undefined) return 'whole';
  const specs = set
    .split(',')
    .map((spec) => spec.trim())
    .filter((spec) => spec !== '');
  if (specs.length === 0) return 'whole';

  const ranges: ByteRange[] = [];
  let reversed = false;
  let emptySuffix = false;
  for (const spec of specs) {
    const [, first, last] = /^(\d*)-(\d*)$/.exec(spec) ?? [];
    if (first === undefined || last === undefined || (first === '' && last === '')) return 'whole';
    if (first === '') {
      // Numbers too long for a double become Infinity, which compares as it should.
      const length = Math.min(Number(last), size);
      if (length > 0) ranges.push({ start: size - length, end: size });
      else if (Number(last) > 0) emptySuffix = true;
    } else {
      const start = Number(first);
      const end = last === '' ? size : Math.min(Number(last) + 1, size);
      if (last !== '' && Number(last) < start) reversed = true;
      else if (start < size) ranges.push({ start, end });
    }
  }
  if (reversed) return 'unsatisfiable';
  // The last bytes of nothing exist, but no Content-Range can say so.
  if (ranges.length === 0) return emptySuffix ? 'whole' : 'unsatisfiable';
  const merged = mergeOverlaps(ranges);
  return merged.length > maxRanges ? 'whole' : merged;
}

/** The ranges themselves where none overlap, else their union in ascending order. */
function mergeOverlaps(ranges: ByteRange[]): ByteRange[] {
  const union: { start: number; end: number }[] = [];
  for (const { start, end } of ranges.toSorted((a, b) => a.start - b.start)) {
    const previous = union.at(-1);
    if (previous !== undefined && start < previous.end) previous.end = Math.max(previous.end, end);
    else union.push({ start, end });
  }
  return union.length === ranges.length ? ranges : union;
}

/**
 * Reads the Content-Range of a chunk of an upload (distribution-spec, "Pushing a blob in chunks"): `0-1023`, and what
 * clients send instead: `bytes 0-1023`, `bytes=0-1023`, either with `/2048` or `/*`.
 * @throws RegistryError RangeInvalid
 */
export function parseContentRange(header: string): ByteRange {
  const [, first, last, total] = /^(?:bytes[ =] *)?(\d+)-(\d+)(?:\/(\d+|\*))?$/i.exec(header.trim()) ?? [];
  if (first === undefined || last === undefined) {
    throw new RegistryError('RangeInvalid', `Content-Range ${quote(header)} is not <first byte>-<last byte>`);
  }
  const start = Number(first);
  const end = Number(last) + 1;
  if (!Number.isSafeInteger(end) || end <= start) {
    throw new RegistryError('RangeInvalid', `Content-Range ${quote(header)} does not end at or after its first byte`);
  }
  if (total !== undefined && total !== '*' && end > Number(total)) {
    throw new RegistryError('RangeInvalid', `Content-Range ${quote(header)} ends after its total`);
  }
  return { start, end };
}

/** The Content-Range of a 206 (RFC 9110 section 14.4). */
export function contentRange(range: ByteRange, size: number): string {
  return `bytes ${range.start}-${range.end - 1}/${size}`;
}

/** The Content-Range of a 416 (RFC 9110 section 14.4): what could have been asked. */
export function unsatisfiedContentRange(size: number): string {
  return `bytes */${size}`;
}

/**
 * Whether the Range header may be applied (RFC 9110 section 13.1.5): If-Range is absent or is exactly `etag`, which is
 * given with its quotes. Weak tags never match, nor do dates, as content that is addressed by digest has none.
 */
export function ifRangeMatches(header: string | undefined, etag: string): boolean {
  return header === undefined || header.trim() === etag;
}

/**
 * Whether If-None-Match names `etag` (RFC 9110 section 13.1.2), so that GET is answered by 304: a list, `*`, weak tags,
 * and the digest without quotes as Docker's client sends it. False when the header is absent.
 */
export function ifNoneMatch(header: string | undefined, etag: string): boolean {
  const opaque = etag.replaceAll('"', '');
  return (header ?? '').split(',').some((element) => {
    const tag = element.trim();
    return tag === '*' || tag === opaque || tag === etag || tag === `W/${etag}`;
  });
}
