import type { Ajv2020, ValidateFunction } from 'ajv/dist/2020.js';
import { RegistryError } from '../../errors.js';
import { type Issue, invalid } from '../../metadata/failures.js';
import { issuesOf, MAX_ISSUES } from './issues.js';
import { type ParameterType, readText } from './parameter-text.js';
import { unstorable } from './unstorable.js';

/** A part of an OpenAPI document; what it holds is known from its place. */
type Node = Readonly<Record<string, unknown>>;

/** An OpenAPI 3.1 document, parsed. */
export type ContractDocument = Node & { readonly paths: Node; readonly components: Node };

/** What a request is made of, as it came: texts, and the JSON of the body where there is one. */
export interface RawRequest {
  readonly path: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly header: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: unknown;
}

export type ParameterValue = string | number | boolean | readonly string[];

/** A request that keeps to the contract. Absent parameters have their default; where there is none, they are undefined. */
export interface CheckedRequest {
  readonly path: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, ParameterValue | undefined>>;
  /** By the names of the contract, such as `If-Match`. */
  readonly header: Readonly<Record<string, string | undefined>>;
  /** Undefined: there was none. */
  readonly body: Readonly<Record<string, unknown>> | undefined;
}

type Place = 'path' | 'query' | 'header';

interface Parameter {
  readonly name: string;
  readonly place: Place;
  readonly required: boolean;
  /** Reference into the document, for ajv. */
  readonly schema: { readonly $ref: string };
  readonly type: ParameterType;
  readonly fallback: ParameterValue | undefined;
}

const METHODS = ['get', 'put', 'post', 'delete', 'patch'];
/** The name by which ajv knows the document. */
const KEY = 'contract';
/** Whoever names what can't be there is told that it is not; other parts of a path are words, which can be wrong. */
const IDS = new Set(['id', 'model']);

/** The metadata API's contract: what spec/openapi.yaml demands of requests. Nothing is compiled before it is needed. */
export class Contract {
  readonly #document: ContractDocument;
  readonly #ajv: Ajv2020;
  readonly #operations = new Map<string, Operation>();

  private constructor(document: ContractDocument, ajv: Ajv2020) {
    this.#document = document;
    this.#ajv = ajv;
  }

  static async of(document: ContractDocument): Promise<Contract> {
    const { createAjv } = await import('./schemas.js');
    return new Contract(document, createAjv(document, KEY));
  }

  /** @throws Error if the contract has no operation of this id. */
  operation(id: string): Operation {
    let operation = this.#operations.get(id);
    if (!operation) {
      operation = new Operation(this.#document, this.#ajv, id);
      this.#operations.set(id, operation);
    }
    return operation;
  }
}

/** One operation of the contract. */
export class Operation {
  /** Whether it wants to know who comes. */
  readonly secured: boolean;
  /** Whether its body is JSON; other bodies are its handler's own. */
  readonly takesJson: boolean;
  readonly #parameters: readonly Parameter[];
  readonly #bodyRequired: boolean;
  readonly #schema: Node;
  readonly #ajv: Ajv2020;
  #validate: ValidateFunction | undefined;

  constructor(document: ContractDocument, ajv: Ajv2020, id: string) {
    const { path, method, item, operation } = find(document, id);
    const pointer = `#/paths/${escaped(path)}/${method}`;
    this.#ajv = ajv;
    const security = (operation.security ?? document.security) as Node[];
    this.secured = security.length > 0 && security.every((scheme) => Object.keys(scheme).length > 0);
    this.#parameters = [
      ...parametersOf(document, item, `#/paths/${escaped(path)}`),
      ...parametersOf(document, operation, pointer),
    ];
    const body = operation.requestBody as (Node & { content: Node }) | undefined;
    this.takesJson = body?.content['application/json'] !== undefined;
    this.#bodyRequired = this.takesJson && body?.required === true;
    const json = { $ref: `${KEY}${pointer}/requestBody/content/application~1json/schema` };
    this.#schema = {
      type: 'object',
      properties: {
        ...Object.fromEntries((['path', 'query', 'header'] as const).map((place) => [place, this.#schemaOf(place)])),
        ...(this.takesJson ? { body: json } : {}),
      },
      required: this.#bodyRequired ? ['body'] : [],
    };
  }

  /**
   * Checks a request as a whole.
   * @throws 'NotFound' for an id that is none; 'Invalid' with every other fault, at most 100.
   */
  check(raw: RawRequest): CheckedRequest {
    const issues: Issue[] = [];
    const path = this.#read('path', (name) => [raw.path[name] ?? ''], issues);
    const query = this.#read('query', (name) => raw.query.getAll(name), issues);
    for (const name of new Set(raw.query.keys())) if (!(name in query)) query[name] = raw.query.getAll(name);
    const header = this.#read('header', (name) => [raw.header[name.toLowerCase()] ?? []].flat(), issues);
    const request = { path, query, header, ...(raw.body === undefined ? {} : { body: raw.body }) };
    issues.push(...unstorable(request));
    // What is too large to be looked at in detail has been told, and so have values that are not to be held.
    if (!issues.some(({ type }) => type === 'too_complex')) {
      const told = new Set(issues.map(({ loc }) => JSON.stringify(loc)));
      issues.push(...this.#faultsOf(request).filter(({ loc }) => !told.has(JSON.stringify(loc))));
    }
    if (issues.some(({ loc: [place, name] }) => place === 'path' && IDS.has(String(name))))
      throw new RegistryError('NotFound', 'there is no such thing');
    if (issues.length > 0) throw invalid(...issues.slice(0, MAX_ISSUES));
    for (const { place, name, fallback } of this.#parameters)
      if (place === 'query' && fallback !== undefined) query[name] ??= fallback;
    return request as unknown as CheckedRequest;
  }

  /** Compiles what `check` needs, which it would otherwise do when it is first called. */
  compile(): void {
    this.#validate ??= this.#ajv.compile(this.#schema);
  }

  #faultsOf(request: Node): Issue[] {
    this.compile();
    const validate = this.#validate as ValidateFunction;
    return validate(request) ? [] : issuesOf(validate.errors ?? [], request);
  }

  /** The values of a place, typed. A text that is not of its parameter's type stays, and fails the check. */
  #read(place: Place, textsOf: (name: string) => string[], issues: Issue[]): Record<string, unknown> {
    const values: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    for (const { place: own, name, type } of this.#parameters) {
      if (own !== place) continue;
      const texts = textsOf(name);
      if (texts.length === 0) continue;
      values[name] = readText(texts, type);
      if (texts.length > 1 && type !== 'array')
        issues.push({ loc: [place, name], msg: `is given ${texts.length} times`, type: 'repeated' });
    }
    return values;
  }

  #schemaOf(place: Place): Node {
    const own = this.#parameters.filter((parameter) => parameter.place === place);
    return {
      type: 'object',
      properties: Object.fromEntries(own.map(({ name, schema }) => [name, schema])),
      required: own.filter(({ required }) => required).map(({ name }) => name),
      additionalProperties: false,
    };
  }
}

function find(document: ContractDocument, id: string) {
  for (const [path, item] of Object.entries(document.paths as Record<string, Node>))
    for (const method of METHODS) {
      const operation = item[method] as Node | undefined;
      if (operation?.operationId === id) return { path, method, item, operation };
    }
  throw new Error(`spec/openapi.yaml has no operation ${id}`);
}

function parametersOf(document: ContractDocument, owner: Node, pointer: string): Parameter[] {
  return ((owner.parameters ?? []) as Node[]).map((written, index) => {
    const ref = written.$ref as string | undefined;
    const parameter = ref === undefined ? written : resolve(document, ref);
    const schema = parameter.schema as Node;
    const resolved = typeof schema.$ref === 'string' ? { ...resolve(document, schema.$ref), ...schema } : schema;
    return {
      name: String(parameter.name),
      place: parameter.in as Place,
      required: parameter.required === true,
      schema: { $ref: `${KEY}${ref ?? `${pointer}/parameters/${index}`}/schema` },
      type: (resolved as Node).type as ParameterType,
      fallback: (resolved as Node).default as ParameterValue | undefined,
    };
  });
}

/** What a reference within the document (`#/components/…`) points to. */
export function resolve(document: ContractDocument, reference: string): Node {
  let node: unknown = document;
  for (const part of reference.slice(2).split('/'))
    node = (node as Node | undefined)?.[part.replaceAll('~1', '/').replaceAll('~0', '~')];
  if (typeof node !== 'object' || node === null) throw new Error(`spec/openapi.yaml has no ${reference}`);
  return node as Node;
}

/** A path of the contract as a part of a JSON pointer in a URI. */
function escaped(path: string): string {
  return encodeURIComponent(path.replaceAll('~', '~0').replaceAll('/', '~1'));
}
