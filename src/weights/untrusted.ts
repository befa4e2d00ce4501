// Readers of what others wrote: whatever is of another type, or not there, is undefined.

/** Longest text that is taken out of a config, in UTF-16 units; the rest is cut. */
const longestText = 200;

/** What no column of PostgreSQL, no header and no line of a page should get. */
const unfit = /[\p{Cc}\p{Cs}\p{Bidi_Control}\u2028\u2029]/gu;

/** Own properties only, so that no name reaches a prototype. */
export function fieldOf(value: unknown, ...path: readonly string[]): unknown {
  let current = value;
  for (const name of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, name)) return undefined;
    current = (current as Record<string, unknown>)[name];
  }
  return current;
}

/** A text on one line, cut to a bounded length; undefined where nothing is left. */
export function textOf(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined;
  // Cut twice: what is replaced may be long, and half a pair may be left at either end.
  const text = value
    .slice(0, 4 * longestText)
    .replace(unfit, ' ')
    .trim()
    .slice(0, longestText);
  return text.replace(unfit, ' ').trim() || undefined;
}

export function textAt(value: unknown, ...path: readonly string[]): string | undefined {
  return textOf(fieldOf(value, ...path));
}

/** The first items of an array; empty where it is none. */
export function itemsAt(value: unknown, ...path: readonly string[]): readonly unknown[] {
  const items = fieldOf(value, ...path);
  return Array.isArray(items) ? items.slice(0, 10_000) : [];
}

const longestPath = 1024;
const longestName = 255;

/**
 * The path of a file below the folder that a client pulls into: with `/` between its parts, neither absolute nor out of
 * the folder. A leading `./` and a `/` at the end are left out. Undefined if the text is no such path.
 */
export function safePath(text: string): string | undefined {
  if (text.length > 2 * longestPath) return undefined;
  let end = text.length;
  // No expression: one that looks for "/" at the end looks anew at every "/".
  while (text[end - 1] === '/' && end > 1) end--;
  const path = text.slice(0, end).replace(/^(?:\.\/+)+/, '');
  if (path.length > longestPath || path.search(unfit) >= 0 || path.includes('\\') || /^[a-z]:/i.test(path)) {
    return undefined;
  }
  return path.split('/').some((part) => part === '' || part === '.' || part === '..') ? undefined : path;
}

/** The last part of a path as the name of a file, whatever the path is; undefined if it has none. */
export function safeName(path: string): string | undefined {
  const last = path
    .slice(-4 * longestPath)
    .split(/[/\\]/)
    .filter((part) => part !== '')
    .at(-1);
  // The end is what tells the format.
  const name = (last ?? '').replace(unfit, '_').slice(-longestName).replace(unfit, '_').trim();
  return name === '' || name === '.' || name === '..' ? undefined : name;
}
