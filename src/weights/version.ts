export { parseParameterCount, parseParameterRange } from './parameters.js';

/** Words that make a version a pre-release, wherever they stand. */
const preReleases: ReadonlySet<string> = new Set(
  'alpha beta rc cr pre preview prerelease dev nightly snapshot canary experimental milestone'.split(' '),
);

/** Letters that do so only as PEP 440 and Maven write them, with a number behind and one before: 7b is a size, a3b too. */
const abbreviations: ReadonlyMap<string, string> = new Map([
  ['a', 'alpha'],
  ['b', 'beta'],
  ['c', 'rc'],
  ['m', 'milestone'],
]);

/** A number or a word of a version, and what stood before it. */
interface Part {
  readonly text: string;
  readonly isNumber: boolean;
  /** '' where it follows the former part at once. */
  readonly before: string;
}

/** Longer versions are no tags; of those, the rest decides nothing. */
const longestVersion = 128;

/**
 * The place of a version among others, as ASCII of at most 400 characters in whose byte order (COLLATE "C") versions
 * ascend:
 *
 * - pre-releases, then the empty version, versions without a number, versions with one;
 * - numbers by value, a leading `v` and case without meaning, `1.0` as `1`;
 * - what is said beyond a version comes behind it, but before its next number: 1, 1-instruct, 1-2, 1.0.1, 1.1;
 * - pre-releases of one version by semver's rules: fewer identifiers, then numbers, then words;
 * - versions that are equal by all this, by their text.
 */
export function versionOrder(version: string): string {
  const text = version.toLowerCase().slice(0, longestVersion);
  const parts = partsOf(text);
  const first = parts.findIndex((_, index) => isPreRelease(parts, index));
  const main = first < 0 ? parts : parts.slice(0, first);
  const pre = first < 0 ? [] : parts.slice(first);

  const stability = first < 0 ? '1' : '0';
  const kind = main.some(isNumber) ? '3' : pre.some(isNumber) ? '2' : parts.length > 0 ? '1' : '0';
  const order = `${stability}${kind}${withoutTrailingZeros(main).map(mainKey).join('')}!${pre.map(preKey).join('')}!`;
  return order + text.replace(/[^!-~]/g, '?');
}

function partsOf(text: string): Part[] {
  // A "v" before a number says only that it is a version.
  const found = text.matchAll(/([^a-z0-9]*)(?:(?<![a-z0-9])v(?=\d))?(\d+|[a-z]+)/g);
  return [...found].map(([, before = '', part = '']) => {
    const isNumber = /^\d/.test(part);
    return { text: isNumber ? part.replace(/^0+(?=\d)/, '') : part, isNumber, before };
  });
}

function isNumber(part: Part): boolean {
  return part.isNumber;
}

function isPreRelease(parts: readonly Part[], index: number): boolean {
  const part = parts[index];
  if (part === undefined || part.isNumber) return false;
  if (preReleases.has(part.text)) return true;
  if (!abbreviations.has(part.text)) return false;
  const [number, next] = parts.slice(index + 1);
  const numbered = number?.isNumber === true && number.before === '' && next?.before !== '';
  return numbered && parts.slice(0, index).some(isNumber);
}

/** Without the `.0` at the end of each run of numbers: 1.0.0-instruct is 1-instruct. */
function withoutTrailingZeros(parts: readonly Part[]): Part[] {
  const kept: Part[] = [];
  // What follows decides, so from the end.
  let ends = true;
  for (const [index, part] of [...parts.entries()].reverse()) {
    const isTrailing = ends && part.isNumber && part.text === '0' && part.before === '.' && parts[index - 1]?.isNumber;
    if (isTrailing) continue;
    kept.push(part);
    ends = !(part.isNumber && part.before === '.');
  }
  return kept.reverse();
}

// Marks of parts are below all letters, so that a word ends where the next mark stands; "!" is below all marks.

function mainKey({ text, isNumber, before }: Part, index: number): string {
  if (!isNumber) return `$${text}`;
  return index === 0 || before === '.' ? numberKey(text, 'A', 'Z') : numberKey(text, '0', '@');
}

function preKey({ text, isNumber }: Part, index: number): string {
  if (isNumber) return numberKey(text, '0', '@');
  return `^${(index === 0 && abbreviations.get(text)) || text}`;
}

/** Numbers sort by their length first: its mark counts up from `first`; with `last` the length is written out. */
function numberKey(digits: string, first: string, last: string): string {
  const mark = first.charCodeAt(0) + digits.length - 1;
  if (mark < last.charCodeAt(0)) return String.fromCharCode(mark) + digits;
  return last + String(digits.length).padStart(3, '0') + digits;
}
