// The client of the metadata API's tests: what it is answered is checked against spec/openapi.yaml, whatever the test is of.
import type { Ajv2020, ValidateFunction } from 'ajv/dist/2020.js';
import { loadContract } from '../../src/commands/contract-files.js';
import { type ContractDocument, resolve } from '../../src/http/api/contract.js';
import { createAjv } from '../../src/http/api/schemas.js';
import { secureFetch } from './secure-fetch.js';
import { ADMIN_KEY, caOf, type TestServer } from './server.js';

export interface ApiOptions {
  /** Sent as X-API-Key; null: none. By default the admin key. */
  readonly key?: string | null;
  /** JSON; texts, bytes and forms are sent as they are. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface ApiAnswer<Body = Readonly<Record<string, unknown>>> {
  readonly status: number;
  readonly headers: Headers;
  /** Parsed, if it is JSON. */
  readonly body: Body;
  readonly bytes: Buffer;
}

/**
 * One request to the metadata API.
 * @param path below /api/v1, with the query; one that begins with /api/ is taken as it is.
 * @throws Error if the answer is not what the contract says: status, headers, content type, body.
 */
export async function api<Body = Readonly<Record<string, unknown>>>(
  server: Pick<TestServer, 'url' | 'host'>,
  method: string,
  path: string,
  { key = ADMIN_KEY, body, headers = {} }: ApiOptions = {},
): Promise<ApiAnswer<Body>> {
  const url = new URL(path.startsWith('/api/') ? path : `/api/v1${path}`, server.url);
  const raw = typeof body === 'string' || body instanceof Uint8Array || body instanceof FormData;
  const init: RequestInit = {
    method,
    redirect: 'manual',
    headers: {
      ...(key === null ? {} : { 'x-api-key': key }),
      ...(body === undefined || raw ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
  };
  const ca = caOf(server.host);
  const response = await (ca ? secureFetch(url, ca, init) : fetch(url, init));
  const answer = {
    status: response.status,
    headers: response.headers,
    bytes: Buffer.from(await response.arrayBuffer()),
  };
  check ??= loadContract().then((document) => new AnswerCheck(document));
  return { ...answer, body: (await check).check(method, url.pathname, answer) as Body };
}

let check: Promise<AnswerCheck> | undefined;

type Node = Readonly<Record<string, unknown>>;

/** What may be answered where there is no operation. */
const UNROUTED = {
  400: 'BadRequest',
  401: 'Unauthorized',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  414: 'TargetTooLong',
  429: 'TooManyRequests',
  431: 'HeadTooLarge',
  500: 'InternalServerError',
  503: 'Unavailable',
} as const;

/** Compares answers with the contract. */
export class AnswerCheck {
  readonly #document: ContractDocument;
  readonly #ajv: Ajv2020;
  readonly #validators = new Map<unknown, ValidateFunction>();

  constructor(document: ContractDocument) {
    this.#document = document;
    this.#ajv = createAjv(document, 'contract');
  }

  /** @returns the body, parsed if it is JSON. @throws Error that says what the contract does not. */
  check(method: string, path: string, answer: Pick<ApiAnswer, 'status' | 'headers' | 'bytes'>): unknown {
    const { status, headers, bytes } = answer;
    const what = `${method} ${path}: ${status}`;
    const response = this.#responseOf(method, path, status);
    if (!response) throw new Error(`${what} is not in the contract: ${bytes.toString('utf8').slice(0, 500)}`);
    for (const [name, written] of Object.entries((response.headers ?? {}) as Node)) {
      const header = this.#resolved(written as Node);
      const value = headers.get(name);
      if (value === null && header.required === true) throw new Error(`${what} has no ${name}`);
      if (value !== null) this.#validate(header.schema as Node, value, `${what}: ${name}`);
    }
    if (method === 'HEAD') return undefined;
    const content = response.content as Readonly<Record<string, Node>> | undefined;
    if (!content) {
      if (bytes.length > 0) throw new Error(`${what} has a body: ${bytes.toString('utf8').slice(0, 500)}`);
      return undefined;
    }
    const type = headers.get('content-type')?.split(';')[0] ?? '';
    const known = content[type] ?? (type.includes('/') ? content['*/*'] : undefined);
    if (!known) throw new Error(`${what} is ${type || 'of no type'}, not ${Object.keys(content).join(' or ')}`);
    const isJson = type === 'application/json' || type.endsWith('+json');
    const schema = known.schema as Node;
    const value: unknown = isJson && schema.format !== 'binary' ? JSON.parse(bytes.toString('utf8')) : undefined;
    if (value !== undefined) this.#validate(schema, value, what);
    return value;
  }

  #responseOf(method: string, path: string, status: number): Node | undefined {
    const name = method === 'HEAD' ? 'get' : method.toLowerCase();
    const operation = this.#pathItem(path)?.[name] as Node | undefined;
    if (operation) {
      const written = (operation.responses as Readonly<Record<string, Node>>)[status];
      return written && this.#resolved(written);
    }
    const unrouted = UNROUTED[status as keyof typeof UNROUTED];
    return unrouted && resolve(this.#document, `#/components/responses/${unrouted}`);
  }

  /** The path of the contract that a path is of; one that has it literally comes before one with parameters. */
  #pathItem(path: string): Node | undefined {
    const parts = path.replace(/^\/api\/v1/, '').split('/');
    const fitting = Object.entries(this.#document.paths as Readonly<Record<string, Node>>).filter(([template]) => {
      const wanted = template.split('/');
      return wanted.length === parts.length && wanted.every((part, at) => part.startsWith('{') || part === parts[at]);
    });
    const parameters = (template: string) => template.split('{').length;
    return fitting.sort(([one], [other]) => parameters(one) - parameters(other))[0]?.[1];
  }

  #resolved(node: Node): Node {
    return typeof node.$ref === 'string' ? resolve(this.#document, node.$ref) : node;
  }

  #validate(schema: Node, value: unknown, what: string): void {
    let validate = this.#validators.get(schema);
    if (!validate) {
      // References of the document are relative to it.
      const text = JSON.stringify(schema).replaceAll('"$ref":"#/', '"$ref":"contract#/');
      validate = this.#ajv.compile(JSON.parse(text) as Node);
      this.#validators.set(schema, validate);
    }
    if (validate(value)) return;
    const faults = (validate.errors ?? []).map(
      ({ instancePath, message, params }) => `${instancePath || '/'} ${message} ${JSON.stringify(params)}`,
    );
    throw new Error(
      `${what} is not as the contract says:\n  ${faults.join('\n  ')}\n${JSON.stringify(value, null, 1)}`,
    );
  }
}
