const units: ReadonlyMap<string, number> = new Map([
  ['', 0],
  ['k', 3],
  ['m', 6],
  ['b', 9],
  ['t', 12],
]);

/** Experts by size, or a number, its unit, and what is active of it: 8x7B, 1.5B, 30B-A3B, 7000000000. */
const countPattern = /^(?:(\d{1,4})x)?(\d{1,16})(?:\.(\d{1,12}))? ?([kmbt]?)(?:-a\d{1,6}(?:\.\d{1,6})?[kmbt]?)?$/i;

/**
 * How many parameters a text such as `7B`, `1.5B`, `350M`, `8x7B` or `30B-A3B` says: of all experts together, active or
 * not. Undefined if it says none, or more than 2^53-1.
 */
export function parseParameterCount(text: string): number | undefined {
  return readCount(text)?.count;
}

/** What a text says, and half of its last digit: below one where it is exact. */
function readCount(text: string): { readonly count: number; readonly half: number } | undefined {
  const [, experts = '1', whole, fraction = '', unit = ''] = countPattern.exec(text.trim()) ?? [];
  const zeros = units.get(unit.toLowerCase());
  if (whole === undefined || zeros === undefined || (fraction !== '' && zeros === 0)) return undefined;
  // In decimal digits, since 0.1 has none in binary; what is beyond a whole parameter is cut.
  const digits = whole + fraction.slice(0, zeros).padEnd(zeros, '0');
  const count = BigInt(digits) * BigInt(experts);
  if (count > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  const places = zeros - fraction.length;
  return { count: Number(count), half: places > 0 ? (Number(experts) * 10 ** places) / 2 : 0 };
}

/** Whole numbers of parameters, both ends included; an end that is absent is open. */
export interface ParameterRange {
  readonly min?: number;
  readonly max?: number;
}

/**
 * Reads a filter: `7B` (all that rounds to it, as names do: 7B from 6.5B on and below 7.5B, 7.0B from 6.95B on and below 7.05B),
 * `7000000000` and `=7B` (exactly), `>=7000000000`, `>7B`, `<=13B`, `<13B`, `7B..13B`, `7B..`, `..13B`. Undefined if it
 * is none, or nothing can be in it.
 */
export function parseParameterRange(text: string): ParameterRange | undefined {
  const trimmed = text.trim();
  const [, comparison, bound] = /^(>=|<=|>|<|=)(.*)$/.exec(trimmed) ?? [];
  if (comparison !== undefined) return compared(comparison, parseParameterCount(bound ?? ''));
  const dots = trimmed.indexOf('..');
  if (dots < 0) return rounded(trimmed);

  const [first, last] = [trimmed.slice(0, dots), trimmed.slice(dots + 2)];
  const min = parseParameterCount(first);
  const max = parseParameterCount(last);
  if ((first !== '' && min === undefined) || (last !== '' && max === undefined)) return undefined;
  if (min === undefined && max === undefined) return undefined;
  if (min !== undefined && max !== undefined && min > max) return undefined;
  return { ...(min !== undefined && { min }), ...(max !== undefined && { max }) };
}

function rounded(text: string): ParameterRange | undefined {
  const read = readCount(text);
  if (!read) return undefined;
  const { count, half } = read;
  if (half < 1) return { min: count, max: count };
  return { min: Math.max(0, count - half), max: Math.min(Number.MAX_SAFE_INTEGER, count + half - 1) };
}

function compared(comparison: string, bound: number | undefined): ParameterRange | undefined {
  if (bound === undefined) return undefined;
  switch (comparison) {
    case '>=':
      return { min: bound };
    case '>':
      return Number.isSafeInteger(bound + 1) ? { min: bound + 1 } : undefined;
    case '<=':
      return { max: bound };
    case '<':
      return bound > 0 ? { max: bound - 1 } : undefined;
    default:
      return { min: bound, max: bound };
  }
}
