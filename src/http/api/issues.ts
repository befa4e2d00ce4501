import type { ErrorObject } from 'ajv';
import type { Issue } from '../../metadata/failures.js';

/** The most that one answer tells. */
export const MAX_ISSUES = 100;

/** The contract's word for what a pattern means, to go on after "must be". */
export const RULE = 'x-rule';

const TIME = ['datetime_parsing', 'must be a time as in RFC 3339, such as 2026-05-04T09:30:00Z'] as const;
const FORMATS: Readonly<Record<string, readonly [type: string, msg: string]>> = {
  uuid: ['uuid_parsing', 'must be a UUID'],
  date: ['date_parsing', 'must be a day, such as 2026-05-04'],
};

/** ajv's word for what is wrong → ours, which are those of FastAPI, and what is said to people. */
const KINDS: Readonly<Record<string, (error: ErrorObject) => readonly [type: string, msg: string]>> = {
  type: ({ params }) => ofType([params.type as string | string[]].flat()),
  enum: ({ params }) => ['enum', `must be one of ${list(params.allowedValues as unknown[])}`],
  const: ({ params }) => ['literal_error', `must be ${JSON.stringify(params.allowedValue)}`],
  minLength: ({ params }) => ['string_too_short', `must have at least ${count(params.limit, 'character')}`],
  maxLength: ({ params }) => ['string_too_long', `must have at most ${count(params.limit, 'character')}`],
  pattern: ({ params, parentSchema }) => ['string_pattern_mismatch', ruleOf(parentSchema, `match ${params.pattern}`)],
  format: ({ params }) => FORMATS[params.format as string] ?? TIME,
  minimum: ({ params }) => ['greater_than_equal', `must be at least ${params.limit}`],
  maximum: ({ params }) => ['less_than_equal', `must be at most ${params.limit}`],
  minItems: ({ params }) => ['too_short', `must have at least ${count(params.limit, 'entry', 'entries')}`],
  maxItems: ({ params }) => ['too_long', `must have at most ${count(params.limit, 'entry', 'entries')}`],
  minProperties: ({ params }) => ['too_short', `must have at least ${count(params.limit, 'field')}`],
  maxProperties: ({ params }) => ['too_long', `must have at most ${count(params.limit, 'field')}`],
  uniqueItems: () => ['not_unique', 'must have each entry once'],
  required: () => ['missing', 'is missing'],
  additionalProperties: () => ['extra_forbidden', 'is not known here'],
  not: ({ parentSchema }) => ['value_error', ruleOf(parentSchema, 'be something else')],
};

/**
 * The faults that ajv found in a request, in the order of their places, each once, at most MAX_ISSUES.
 * @param request what was validated; it tells indexes from names that look like them.
 */
export function issuesOf(errors: readonly ErrorObject[], request: unknown): Issue[] {
  const issues = new Map<string, Issue>();
  for (const error of errors) {
    const issue = issueOf(error, request);
    if (issue && issues.size < MAX_ISSUES) issues.set(JSON.stringify([issue.loc, issue.type]), issue);
  }
  return [...issues.values()];
}

function issueOf(error: ErrorObject, request: unknown): Issue | undefined {
  const { keyword, params, schema, schemaPath, propertyName } = error;
  const loc = locationOf(error.instancePath, request);
  if (keyword === 'anyOf') return oneOf(loc, schema as { required?: string[] }[]);
  const kind = KINDS[keyword];
  // Told by the errors below them, or, of the branches of an anyOf, by it.
  if (!kind || schemaPath.includes('/anyOf/')) return undefined;
  const [type, msg] = kind(error);
  const name = (params.missingProperty ?? params.additionalProperty ?? propertyName) as string | undefined;
  return { loc: name === undefined ? loc : [...loc, name], msg, type };
}

/** `anyOf` says in the contract which fields can stand for each other. */
function oneOf(loc: readonly (string | number)[], branches: readonly { required?: string[] }[]): Issue {
  const [first = '', ...others] = branches.flatMap(({ required = [] }) => required);
  return { loc: [...loc, first], msg: `is missing, and so is ${others.join(', ')}`, type: 'missing' };
}

function locationOf(pointer: string, request: unknown): (string | number)[] {
  let at = request;
  return pointer
    .split('/')
    .slice(1)
    .map((part) => {
      const name = part.replaceAll('~1', '/').replaceAll('~0', '~');
      const key = Array.isArray(at) ? Number(name) : name;
      at = (at as Record<string | number, unknown>)[key];
      return key;
    });
}

const TYPES: Readonly<Record<string, readonly [type: string, words: string]>> = {
  string: ['string_type', 'a string'],
  integer: ['int_type', 'a whole number'],
  number: ['float_type', 'a number'],
  boolean: ['bool_type', 'true or false'],
  array: ['list_type', 'a list'],
  object: ['dict_type', 'an object'],
  null: ['none_required', 'null'],
};

function ofType(wanted: readonly string[]): readonly [string, string] {
  const words = wanted.map((type) => TYPES[type]?.[1] ?? type);
  return [TYPES[wanted[0] ?? '']?.[0] ?? 'value_error', `must be ${words.join(' or ')}`];
}

function list(values: readonly unknown[]): string {
  return values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(', ');
}

function count(limit: number, one: string, many = `${one}s`): string {
  return `${limit} ${limit === 1 ? one : many}`;
}

/** What the contract says in words beside a pattern. */
function ruleOf(schema: Readonly<Record<string, unknown>> | undefined, otherwise: string): string {
  const rule = schema?.[RULE];
  return typeof rule === 'string' ? `must be ${rule}` : `must ${otherwise}`;
}
