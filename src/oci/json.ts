import { RegistryError } from '../errors.js';
import { quote } from './quote.js';

/** An object as JSON has it; a name that is absent and one that is null mean the same here (Go writes nil as null). */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Parses a document that every parser must read alike: UTF-8 without a byte order mark, no name twice in one object
 * (parsers differ in which they take), at most `maxDepth` objects and arrays within each other. The time is linear.
 * @param what how the document is called in messages
 * @throws RegistryError ManifestInvalid
 */
export function parseJson(bytes: Uint8Array, maxDepth: number, what = 'manifest'): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new RegistryError('ManifestInvalid', `${what} is not valid UTF-8`, { cause });
  }
  if (text.startsWith('\ufeff')) {
    throw new RegistryError('ManifestInvalid', `${what} begins with a byte order mark`);
  }
  checkNesting(text, maxDepth, what);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RegistryError('ManifestInvalid', `${what} is not valid JSON`, { cause });
  }
}

/** Looks at brackets and names only, so it also ends well on text that is no JSON. */
function checkNesting(text: string, maxDepth: number, what: string): void {
  const open: { readonly isObject: boolean; names?: Set<string> }[] = [];
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '{' || character === '[') {
      if (open.length >= maxDepth) {
        throw new RegistryError('ManifestInvalid', `${what} is nested more than ${maxDepth} levels deep`);
      }
      open.push({ isObject: character === '{' });
    } else if (character === '}' || character === ']') {
      open.pop();
    } else if (character === '"') {
      const end = endOfString(text, at);
      const scope = open.at(-1);
      if (scope?.isObject && isBeforeColon(text, end)) {
        const name = decodeString(text.slice(at, end));
        scope.names ??= new Set();
        if (scope.names.has(name)) {
          throw new RegistryError('ManifestInvalid', `${what} has the name ${quote(name)} twice in one object`);
        }
        scope.names.add(name);
      }
      at = end - 1;
    }
  }
}

/** The offset after the closing quote of the string that begins at `start`; the end of the text where there is none. */
function endOfString(text: string, start: number): number {
  let at = text.indexOf('"', start + 1);
  while (at >= 0 && isEscaped(text, at)) at = text.indexOf('"', at + 1);
  return at < 0 ? text.length : at + 1;
}

function isEscaped(text: string, quote: number): boolean {
  let first = quote;
  while (text[first - 1] === '\\') first--;
  return (quote - first) % 2 === 1;
}

function isBeforeColon(text: string, from: number): boolean {
  let at = from;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at++;
  return text[at] === ':';
}

function decodeString(literal: string): string {
  // Most names have no escapes, and one that can't be decoded fails in JSON.parse afterwards.
  if (!literal.includes('\\')) return literal.slice(1, -1);
  try {
    return String(JSON.parse(literal));
  } catch {
    return literal;
  }
}

/** The failure of one field of a manifest; `field` is its path, such as `layers[3].digest`. */
export function invalidField(field: string, problem: string, cause?: unknown): RegistryError {
  return new RegistryError('ManifestInvalid', `${field} ${problem}`, { cause, detail: { field } });
}

/**
 * `value` as an object. Names that differ from one of `known` by case alone are refused: Go's encoding/json takes them
 * for it, so a Go client and this registry would see different manifests.
 * @throws RegistryError ManifestInvalid, naming `field`
 */
export function requireObject(value: unknown, field: string, known: readonly string[]): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidField(field, 'is not an object');
  }
  const folded = new Map(known.map((name) => [fold(name), name]));
  for (const name of Object.keys(value)) {
    const meant = folded.get(fold(name));
    if (meant !== undefined && meant !== name) throw invalidField(field, `spells ${meant} as ${quote(name)}`);
  }
  return value as JsonObject;
}

/** Folds as Go does: both ways, as "ſ" is an s and the Kelvin sign a k. */
function fold(name: string): string {
  return name.toUpperCase().toLowerCase();
}

/**
 * A string that text columns and jsonb of PostgreSQL can hold: no NUL and no half of a surrogate pair.
 * @throws RegistryError ManifestInvalid, naming `field`
 */
export function requireString(value: unknown, field: string): string {
  if (typeof value !== 'string') throw invalidField(field, value === undefined ? 'is missing' : 'is not a string');
  if (value.includes('\u0000') || /\p{Surrogate}/u.test(value)) {
    throw invalidField(field, 'has a NUL or half a surrogate pair');
  }
  return value;
}

/** As requireString, but undefined where the value is absent, null or empty (Go writes an unset string as ""). */
export function optionalString(value: unknown, field: string): string | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  return requireString(value, field);
}
