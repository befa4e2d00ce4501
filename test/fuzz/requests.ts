// One request out of a seed and a number: a grammar for each part, each of which may be right or wrong by itself.
import { Chance } from '../faults/support/bytes.js';
import { ADMIN_KEY, AUTHORIZATION } from '../support/server.js';
import { digestOf } from '../http/content.js';
import { bodyOf } from './bodies.js';
import { API_PARAMETERS, jsonBodyOf, pathWord, requiredOf } from './metadata.js';
import type { Route } from './routes.js';
import { DIGESTS, REPOSITORIES, TAGS } from './scene.js';
import { nearly, odd, value } from './words.js';

export interface FuzzRequest {
  /** Which route it was made for. */
  readonly route: string;
  readonly method: string;
  /** Head and body as they are sent; `@upload@` in the head stands for the id of a session that is opened for it. */
  readonly head: string;
  readonly body: Buffer;
  /** Sent one after the other: where the bytes are cut. */
  readonly cuts: readonly number[];
  /** Whether the client ends its side when it has sent all. */
  readonly halfClose: boolean;
  /** Whether the framing is right and nothing asks for the end of the connection, so that a second request must be answered. */
  readonly goesOn: boolean;
}

/**
 * Most requests are wrong in one part alone: with faults everywhere nearly all would be refused for the first of them. The
 * others are wrong anywhere.
 */
class Wrongness {
  readonly #part: string;

  constructor(readonly chance: Chance) {
    this.#part = chance.pick(['path', 'query', 'query', 'credentials', 'fields', 'framing', 'nothing', 'all']);
  }

  /** How likely something in this part is wrong: `most`, or never. */
  of(part: 'path' | 'query' | 'credentials' | 'fields' | 'framing', most: number): number {
    return this.#part === part || this.#part === 'all' ? most : 0;
  }

  now(...[part, most]: Parameters<Wrongness['of']>): boolean {
    return this.chance.next() < this.of(part, most);
  }
}

/** @returns the request of this number; the same for the same seed, as long as the routes are the same. */
export function requestOf(routes: readonly Route[], seed: number, number: number): FuzzRequest {
  const chance = new Chance((Math.imul(seed, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b)) >>> 0);
  const route = chance.pick(routes);
  const wrong = new Wrongness(chance);
  const method = methodOf(chance, wrong, route.method);
  const empty = /^(GET|HEAD|DELETE|OPTIONS)$/.test(method) && chance.next() < 0.85;
  const body = empty
    ? Buffer.alloc(0)
    : isApi(route) && chance.next() < 0.85
      ? jsonBodyOf(chance, route.path)
      : bodyOf(chance);
  const target = targetOf(chance, wrong, route, digestOf(body));
  const framing = framingOf(chance, wrong, body);
  const lines = [
    hostOf(chance, wrong),
    ...credentialsOf(chance, wrong),
    ...typeOf(chance, route, body),
    ...fieldsOf(chance, wrong),
    ...framing.lines,
  ];
  const closes = lines.some((line) => /^(connection|expect|upgrade|te|trailer)/i.test(line));
  const version = !wrong.now('framing', 0.1)
    ? 'HTTP/1.1'
    : chance.pick(['HTTP/1.0', 'HTTP/0.9', 'HTTP/2.0', 'HTTP/1.', 'http/1.1', '']);
  const whole = framing.body.length;
  const cuts = Array.from({ length: chance.next() < 0.3 ? chance.whole(1, 3) : 0 }, () => chance.whole(0, whole));
  return {
    route: `${route.method} ${route.path}`,
    method,
    head: `${method} ${target} ${version}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`,
    body: framing.body,
    cuts: cuts.sort((one, other) => one - other),
    halfClose: framing.short || chance.next() < 0.1,
    goesOn: framing.right && !closes && version === 'HTTP/1.1' && chance.next() < 0.5,
  };
}

function isApi({ path }: Pick<Route, 'path'>): boolean {
  return path.startsWith('/api/v1/');
}

function methodOf(chance: Chance, wrong: Wrongness, method: string): string {
  if (!wrong.now('path', 0.2)) return method === 'GET' && chance.next() < 0.2 ? 'HEAD' : method;
  return chance.pick([
    'GET',
    'HEAD',
    'POST',
    'PUT',
    'PATCH',
    'DELETE',
    'OPTIONS',
    'TRACE',
    'PURGE',
    'PROPFIND',
    'QUERY',
    'get',
    'X',
  ]);
}

/** @param own the digest of the body. */
function targetOf(chance: Chance, wrong: Wrongness, route: Route, own: string): string {
  const { path } = route;
  const words: Record<string, () => string> = {
    name: () => chance.pick(REPOSITORIES),
    digest: () => chance.pick(DIGESTS),
    reference: () => (chance.next() < 0.5 ? chance.pick(TAGS) : chance.pick([own, ...DIGESTS])),
    upload: () => '@upload@',
  };
  const filled = path
    .replace(/\{\/\}/g, () => (chance.next() < 0.5 ? '/' : ''))
    .replace(/[*:]([a-z]+)/gi, (_, name: string) =>
      nearly(chance, (words[name] ?? (() => pathWord(chance, route, name)))(), wrong.of('path', 0.4)),
    );
  const bent = wrong.now('path', 0.15) ? nearly(chance, filled, 1) : filled;
  const target = wrong.now('path', 0.05)
    ? `${chance.pick(['http://other', 'https://u:p@x:1', 'file://', '//x', 'http://['])}${bent}`
    : bent;
  return target + queryOf(chance, wrong, path, own);
}

/** Which parameters a route reads; where none is listed any is tried. */
const PARAMETERS: readonly (readonly [place: string, names: readonly string[]])[] = [
  ['uploads', ['digest', 'mount', 'from', 'digest-algorithm']],
  ['manifests', ['tag']],
  ['referrers', ['artifactType', 'last', 'n']],
  ['list', ['last', 'n']],
  ['_catalog', ['last', 'n']],
  ['token', ['service', 'scope', 'account', 'offline_token', 'client_id']],
];

/** @param digest of the body. */
function queryOf(chance: Chance, wrong: Wrongness, path: string, digest: string): string {
  const ofApi = Object.entries(API_PARAMETERS).map(([name, make]) => [name, () => make(chance)] as const);
  const parameters: Record<string, () => string> = isApi({ path })
    ? Object.fromEntries(ofApi)
    : {
        digest: () => (chance.next() < 0.6 ? digest : chance.pick(DIGESTS)),
        mount: () => chance.pick(DIGESTS),
        from: () => chance.pick(REPOSITORIES),
        'digest-algorithm': () => chance.pick(['sha256', 'sha512']),
        tag: () => chance.pick(TAGS),
        n: () => String(chance.pick([0, 1, 2, 3, 100, 10_000])),
        last: () => chance.pick([...TAGS, ...DIGESTS, ...REPOSITORIES]),
        artifactType: () => 'application/vnd.fuzz',
        service: () => 'registry.example',
        scope: () => 'repository:fuzz/model:pull,push',
        account: () => 'anyone',
        offline_token: () => 'true',
        client_id: () => 'fuzz',
        ns: () => 'docker.io',
        ['__proto__']: () => '1',
      };
  const own = PARAMETERS.find(([place]) => path.includes(place))?.[1] ?? Object.keys(parameters);
  // Of the metadata API's most are unknown to most lists, and refused for that alone.
  const count = chance.next() < (isApi({ path }) ? 0.6 : 0.3) ? 0 : chance.whole(1, 3);
  const required = wrong.now('query', 0.1) ? [] : requiredOf(path);
  const chosen = Array.from({ length: count }, () => chance.pick(chance.next() < 0.8 ? own : Object.keys(parameters)));
  const names = [...chosen, ...required];
  // Most that are given twice would be refused for that alone.
  const pairs = (wrong.now('query', 0.1) ? names : [...new Set(names)]).map((name) => {
    const text = nearly(chance, parameters[name]?.() ?? '', wrong.of('query', 0.5));
    return `${nearly(chance, name, wrong.of('query', 0.05))}=${text}`;
  });
  if (path.includes('uploads') && !names.includes('digest') && chance.next() < 0.5) pairs.push(`digest=${digest}`);
  if (wrong.now('query', 0.03)) pairs.push(...Array<string>(500).fill('tag=x'));
  return pairs.length === 0 ? '' : `?${pairs.join(wrong.now('query', 0.1) ? ';' : '&')}`;
}

function hostOf(chance: Chance, wrong: Wrongness): string {
  return !wrong.now('fields', 0.1)
    ? 'Host: fuzz.example'
    : chance.pick(['Host: ', 'X: y', `Host: ${value(chance)}`, 'Host: a\r\nHost: b']);
}

function credentialsOf(chance: Chance, wrong: Wrongness): string[] {
  if (!wrong.now('credentials', 0.7)) return [`Authorization: ${AUTHORIZATION}`];
  const basic = (text: string) => `Authorization: Basic ${Buffer.from(text, 'latin1').toString('base64')}`;
  return chance.pick<() => string[]>([
    () => [],
    () => [`X-API-Key: ${ADMIN_KEY}`],
    () => [`X-API-Key: ${value(chance)}`],
    () => [basic(`user:${value(chance)}`)],
    () => [basic(`user:wh_${chance.pick(['admin', 'none', 'x'.repeat(40)])}_${value(chance)}`)],
    () => [basic(`user:${'x'.repeat(chance.whole(60, 5000))}`)],
    () => [basic('user')],
    () => [basic(':')],
    () => ['Authorization: Basic'],
    () => ['Authorization: Basic ====', 'X-API-Key: x'],
    () => [`Authorization: Bearer ${value(chance)}`],
    () => ['Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.'],
    () => [
      'Authorization: Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6Ii4uLy4uIn0.eyJzdWIiOiJhZG1pbiIsImV4cCI6OTk5OTk5OTk5OX0.AAAA',
    ],
    () => [`Authorization: Bearer ${'a.'.repeat(chance.whole(1, 3000))}`],
    () => [
      `Authorization: ${chance.pick(['Digest', 'Negotiate', 'bearer', 'BASIC', 'AWS4-HMAC-SHA256'])} ${value(chance)}`,
    ],
    () => [`Authorization: ${AUTHORIZATION}`, `Authorization: ${AUTHORIZATION}`],
  ])();
}

/** The media type that fits the body, or the route. */
function typeOf(chance: Chance, { path }: Route, body: Buffer): string[] {
  if (chance.next() < (isApi({ path }) ? 0.05 : 0.3)) return [];
  if (isApi({ path })) return ['Content-Type: application/json'];
  if (path.includes('token')) return ['Content-Type: application/x-www-form-urlencoded'];
  const type = /"mediaType":"(application\/vnd\.oci\.image\.(?:manifest|index)[a-z0-9.+]+)"/.exec(
    body.toString('latin1'),
  )?.[1];
  return type === undefined ? [] : [`Content-Type: ${type}`];
}

const RANGES = [
  'bytes=0-',
  'bytes=0-0',
  'bytes=-1',
  'bytes=5-2',
  'bytes=0-99,200-300',
  'bytes=0-0,0-0',
  'items=0-1',
  'bytes=',
  `bytes=${'0-0,'.repeat(2000)}1-`,
];
const CHUNKS = ['0-1', '0-0', '5-9', 'bytes 0-1/2', 'bytes 0-1/*', 'bytes */2', '1-0', '0-9007199254740993', '0-69999'];

function fieldsOf(chance: Chance, wrong: Wrongness): string[] {
  const fields: Record<string, () => string> = {
    Range: () => chance.pick(RANGES),
    'Content-Range': () => chance.pick(CHUNKS),
    'If-Range': () => `"${chance.pick(DIGESTS)}"`,
    'If-None-Match': () => `"${chance.pick(DIGESTS)}"`,
    'If-Match': () => '*',
    Accept: () => chance.pick(['*/*', 'application/vnd.oci.image.manifest.v1+json', 'text/html;q=0', ',,,']),
    'Content-Type': () =>
      chance.pick([
        'application/vnd.oci.image.manifest.v1+json',
        'application/vnd.oci.image.index.v1+json',
        'application/octet-stream',
        'application/x-www-form-urlencoded',
        'text/plain; charset=utf-7',
        'a/b\\r\\nInjected: yes',
      ]),
    'Content-Encoding': () => chance.pick(['gzip', 'br', 'identity']),
    'Accept-Encoding': () => 'gzip, br',
    Expect: () => '100-continue',
    Connection: () => chance.pick(['close', 'keep-alive', 'Authorization', 'Upgrade, HTTP2-Settings', 'TE']),
    Upgrade: () => chance.pick(['h2c', 'websocket', 'TLS/1.0']),
    TE: () => 'trailers',
    Trailer: () => 'X-Later',
    'X-Forwarded-For': () => '203.0.113.7',
    'X-Forwarded-Proto': () => 'https',
    'X-Forwarded-Host': () => 'evil.example',
    Forwarded: () => 'for=1;host=x',
    'X-Request-Id': () => 'from-a-proxy',
    'X-HTTP-Method-Override': () => 'DELETE',
    'X-Original-URL': () => '/v2/_catalog',
    Origin: () => 'https://evil.example',
    Cookie: () => 'a=b',
    'User-Agent': () => 'fuzz',
    Digest: () => 'sha-256=AAAA',
    'X-Odd': () => odd(chance).replace(/[\r\n]/g, ' '),
  };
  const count = chance.next() < 0.4 ? 0 : chance.whole(1, 4);
  const lines = Array.from({ length: count }, () => {
    const name = chance.pick(Object.keys(fields));
    const text = !wrong.now('fields', 0.4) ? (fields[name]?.() ?? '') : value(chance);
    return `${name}${wrong.now('fields', 0.02) ? ' :' : ':'} ${text}`;
  });
  if (wrong.now('fields', 0.02)) lines.push(`X-Long: ${'x'.repeat(chance.whole(10_000, 60_000))}`);
  if (wrong.now('fields', 0.02)) lines.push(...Array<string>(chance.whole(200, 1500)).fill('A: b'));
  return lines;
}

interface Framing {
  readonly lines: string[];
  readonly body: Buffer;
  /** Whether the head tells of more than is sent. */
  readonly short: boolean;
  readonly right: boolean;
}

function framingOf(chance: Chance, wrong: Wrongness, body: Buffer): Framing {
  const length = `Content-Length: ${body.length}`;
  const chunked = (bytes: Buffer) =>
    Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n0\r\n\r\n')]);
  const right = { lines: body.length === 0 ? [] : [length], body, short: false, right: true };
  const roll = chance.next() * (1 + wrong.of('framing', 1));
  if (roll < 0.8) return right;
  if (roll < 1 && body.length > 0) return { ...right, lines: ['Transfer-Encoding: chunked'], body: chunked(body) };
  if (roll <= 1) return right;
  if (roll < 1.1)
    return {
      ...right,
      lines: [`Content-Length: ${body.length + chance.pick([1, 100, 1e6, 1e13])}`],
      short: true,
      right: false,
    };
  return chance.pick<() => Framing>([
    () => right,
    () => ({ lines: [length, 'Transfer-Encoding: chunked'], body: chunked(body), short: false, right: false }),
    () => ({ lines: ['Transfer-Encoding: chunked'], body, short: true, right: false }),
    () => ({ lines: [`Transfer-Encoding: ${value(chance)}`], body: chunked(body), short: true, right: false }),
    () => ({ lines: [`Content-Length: ${value(chance)}`], body, short: true, right: false }),
    () => ({
      lines: ['Transfer-Encoding: chunked'],
      body: Buffer.from(`${value(chance)}\r\nxx\r\n0\r\n\r\n`, 'latin1'),
      short: true,
      right: false,
    }),
    () => ({ lines: [`Content-Length: ${Math.floor(body.length / 2)}`], body, short: false, right: false }),
  ])();
}
