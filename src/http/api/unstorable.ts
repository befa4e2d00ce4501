import type { Issue } from '../../metadata/failures.js';

/** More values than any request needs; each may cost the check a fault. */
const MAX_VALUES = 10_000;

type Location = readonly (string | number)[];

/**
 * What of a request PostgreSQL could not hold, or JSON could not say again: texts with U+0000 or half of a surrogate pair
 * (also as names), numbers beyond all bounds. One issue if there are more values than can be looked at.
 */
export function unstorable(request: Readonly<Record<string, unknown>>): Issue[] {
  const issues: Issue[] = [];
  let values = 0;
  const look = (value: unknown, loc: Location): void => {
    values += 1;
    if (values > MAX_VALUES) return;
    if (typeof value === 'string') {
      if (isUnstorable(value)) issues.push(ofText(loc));
    } else if (typeof value === 'number') {
      if (!Number.isFinite(value)) issues.push({ loc, msg: 'is too large a number', type: 'finite_number' });
    } else if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) look(item, [...loc, index]);
    } else if (typeof value === 'object' && value !== null) {
      for (const [name, item] of Object.entries(value)) {
        if (isUnstorable(name)) issues.push(ofText([...loc, name]));
        else look(item, [...loc, name]);
      }
    }
  };
  look(request, []);
  if (values <= MAX_VALUES) return issues;
  return [{ loc: ['body'], msg: `has more than ${MAX_VALUES} values`, type: 'too_complex' }];
}

function isUnstorable(text: string): boolean {
  return text.includes('\u0000') || /\p{Surrogate}/u.test(text);
}

function ofText(loc: Location): Issue {
  return { loc, msg: 'holds the character U+0000 or half of a surrogate pair', type: 'string_unicode' };
}
