import { createHash } from 'node:crypto';
import type { Chance } from '../faults/support/bytes.js';

const SHA256 = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;

/** Text that some parser somewhere has tripped over. */
const ODD = [
  '',
  ' ',
  '%20',
  '.',
  '..',
  '../..',
  '..%2f..%2f',
  '%2e%2e',
  '%2F',
  '%5c',
  '\\',
  '/',
  '//',
  '%',
  '%%',
  '%0',
  '%zz',
  '%00',
  '%0d%0aInjected:%20yes',
  '%0aInjected:%20yes',
  '%E0%A4%A',
  '%ff%fe',
  '%c0%af',
  '%ed%a0%80',
  '%ef%bf%bf',
  '\x80',
  '\xff\xfe',
  '\xc3\xa4',
  '\x7f',
  '\x01',
  '\t',
  '-',
  '--',
  '_',
  '__',
  '___',
  '.a',
  'a.',
  'a..b',
  'A',
  'a'.repeat(128),
  'a'.repeat(129),
  'a'.repeat(256),
  'a/'.repeat(128),
  'a-'.repeat(2000),
  '9'.repeat(25),
  '-1',
  '0',
  '-0',
  '1e9',
  '0x10',
  'NaN',
  'null',
  'undefined',
  'true',
  '{}',
  '[]',
  '[object Object]',
  '__proto__',
  'constructor',
  'hasOwnProperty',
  "'",
  '"',
  "' or '1'='1",
  '"; --',
  '$1',
  '$(id)',
  '`id`',
  '{{7*7}}',
  '<script>',
  '*',
  '**',
  '?',
  '#',
  ';',
  ',',
  '&',
  '=',
  '+',
  '@',
  ':',
  '::',
  '~',
  '|',
  '^',
  '<>',
  'sha256',
  'sha256:',
  'sha256:x',
  `sha256:${'0'.repeat(63)}`,
  `sha256:${'0'.repeat(65)}`,
  `sha256:${'G'.repeat(64)}`,
  SHA256('x').toUpperCase(),
  'sha512:',
  `sha512:${'0'.repeat(128)}`,
  `sha384:${'0'.repeat(96)}`,
  `md5:${'0'.repeat(32)}`,
  `sha256:${'0'.repeat(4000)}`,
  'sha256:sha256:',
  'a:b',
  '00000000-0000-0000-0000-000000000000',
  '00000000-0000-0000-0000-00000000000',
  'ffffffff-ffff-ffff-ffff-ffffffffffff',
  'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF',
  '2147483648',
  '9007199254740993',
  '18446744073709551616',
] as const;

/** Of those, what has most often come through to where it hurts. */
const NASTY = [
  '%00',
  '%00',
  '%ed%a0%80',
  '%0d%0aInjected:%20yes',
  '%E0%A4%A',
  '..%2f..%2f',
  '9007199254740993',
] as const;

export function odd(chance: Chance): string {
  return chance.pick<string>(chance.next() < 0.5 ? NASTY : ODD);
}

/** Mostly `text`; sometimes with something wrong somewhere, sometimes something else altogether. */
export function nearly(chance: Chance, text: string, wrong = 0.25): string {
  if (chance.next() >= wrong) return text;
  if (chance.next() < 0.6) return odd(chance);
  const at = chance.whole(0, text.length);
  const after = text.slice(at + chance.whole(0, 2));
  return text.slice(0, at) + (chance.next() < 0.5 ? odd(chance) : String.fromCharCode(chance.whole(1, 255))) + after;
}

/** A value of a header: no line breaks of its own, which would make other headers. */
export function value(chance: Chance): string {
  return odd(chance).replace(/[\r\n]/g, ' ');
}
