import type { Chance } from '../faults/support/bytes.js';
import { bytesOf, digestOf } from '../http/content.js';
import { BLOBS, DIGESTS, IMAGES, INDEXES } from './scene.js';
import { nearly, odd } from './words.js';

const KINDS = [
  () => Buffer.alloc(0),
  (chance: Chance) => chance.pick(BLOBS),
  (chance: Chance) => chance.pick([...IMAGES, ...INDEXES]),
  (chance: Chance) => chance.pick([...IMAGES, ...INDEXES]),
  bent,
  bent,
  form,
  (chance: Chance) => bytesOf(String(chance.whole(0, 1000)), chance.whole(1, 2000)),
  (chance: Chance) =>
    Buffer.from(chance.pick(['{', '[', 'null', '1', '""', '{}', '[]', '{"a":1,"a":2}', '\ufeff{}', '[[[[[['])),
  (chance: Chance) => Buffer.from('['.repeat(chance.whole(1, 200_000))),
] as const;

/** The bytes of a body. */
export function bodyOf(chance: Chance): Buffer {
  return chance.pick(KINDS)(chance);
}

/** A manifest of which one field is something else. */
function bent(chance: Chance): Buffer {
  const document = JSON.parse(chance.pick([...IMAGES, ...INDEXES]).toString()) as Record<string, unknown>;
  let place: Record<string, unknown> = document;
  for (;;) {
    const name = chance.pick([
      ...Object.keys(place),
      'subject',
      'annotations',
      'config',
      'digest',
      'size',
      'mediaType',
      '__proto__',
    ]);
    const inner = place[name];
    if (typeof inner === 'object' && inner !== null && Object.keys(inner).length > 0 && chance.next() < 0.7) {
      place = inner as Record<string, unknown>;
      continue;
    }
    place[name] = something(chance);
    break;
  }
  const text = JSON.stringify(document);
  return Buffer.from(chance.next() < 0.9 ? text : nearly(chance, text, 1), 'utf8');
}

function something(chance: Chance): unknown {
  return chance.pick<() => unknown>([
    () => null,
    () => odd(chance),
    () => -1,
    () => 1.5,
    () => 2 ** 53,
    () => true,
    () => [],
    () => ({}),
    () => [null, odd(chance)],
    () => ({ [odd(chance)]: odd(chance) }),
    () => ({ a: { b: { c: [] } } }),
    () => chance.pick(DIGESTS),
    () => digestOf(odd(chance)),
    () => 'a\u0000b',
    () => '\ud800',
    () => '\r\nInjected: yes',
    () => 'x'.repeat(100_000),
    () => ({ mediaType: 'application/x', digest: chance.pick(DIGESTS), size: 2 }),
  ])();
}

/** What a token endpoint is sent. */
function form(chance: Chance): Buffer {
  const names = ['grant_type', 'service', 'scope', 'client_id', 'username', 'password', 'refresh_token', 'access_type'];
  const words = [
    'password',
    'refresh_token',
    'offline',
    'repository:fuzz/model:pull,push',
    'anyone',
    'registry:catalog:*',
  ];
  const pairs = Array.from(
    { length: chance.whole(0, 8) },
    () => `${chance.pick(names)}=${nearly(chance, chance.pick(words))}`,
  );
  return Buffer.from(pairs.join('&'), 'latin1');
}
