import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { RegistryError } from '../../errors.js';
import { invalid } from '../../metadata/failures.js';
import type { Recorder } from '../../metadata/metadata.js';
import type { Caller, Rights } from '../../metadata/rights.js';
import { permit, scopeOf } from '../authenticate.js';
import { actorOf, type Context } from '../context.js';

/** What a request may do, for the verbs of the metadata. */
export function rightsOf(ctx: Context): Rights {
  const { access } = ctx.state;
  return {
    seesAll: access.seesAll,
    maySee: (repository) => access.may('pull', repository as Parameters<typeof access.may>[1]),
    require: (right, repository) => permit(ctx, access.decide(right, repository), scopeOf(repository, right)),
    requireAdmin: () => permit(ctx, access.decideAdmin('change')),
  };
}

/**
 * Who changes something by this request, with what it says of what is there: If-Match, If-None-Match, and the fields of the
 * body that can't be changed, which may be sent as they are.
 */
export function callerOf(ctx: Context, record: Recorder, fixed: Fields = {}): Caller {
  const actor = actorOf(ctx);
  return {
    actor,
    rights: rightsOf(ctx),
    expect: (current) => {
      checkPreconditions(ctx, current);
      checkFixed(current as Fields, fixed);
    },
    record: (transaction, change) => record(change, actor, transaction),
  };
}

type Fields = Readonly<Record<string, unknown>>;

/** Parts a body into what can be changed and what can't. */
export function partBody<Input>(body: Fields | undefined, names: readonly string[]): { said: Input; fixed: Fields } {
  const entries = Object.entries(body ?? {});
  return {
    said: Object.fromEntries(entries.filter(([name]) => !names.includes(name))) as Input,
    fixed: Object.fromEntries(entries.filter(([name]) => names.includes(name))),
  };
}

/** @throws 'Invalid' naming each field that is another than it was */
function checkFixed(current: Fields, fixed: Fields): void {
  const issues = Object.entries(fixed)
    .filter(([name, value]) => !isDeepStrictEqual(JSON.parse(JSON.stringify(current[name] ?? null)), value))
    .map(([name]) => ({ loc: ['body', name], msg: "this field can't be changed", type: 'read_only' }));
  if (issues.length > 0) throw invalid(...issues);
}

/** Strong: over the whole resource as it is answered (RFC 9110 section 8.8.3). */
export function etagOf(resource: object): string {
  return `"${createHash('sha256').update(JSON.stringify(resource)).digest('base64url').slice(0, 27)}"`;
}

/** RFC 9110 section 13.1; nothing there is `{}`. @throws 'PreconditionFailed' */
function checkPreconditions(ctx: Context, current: object): void {
  const there = Object.keys(current).length > 0;
  const match = ctx.req.headers['if-match'];
  if (match !== undefined && !(there && listed(match, etagOf(current))))
    throw new RegistryError('PreconditionFailed', 'It was changed since (If-Match)');
  if (there && ctx.req.headers['if-none-match']?.trim() === '*')
    throw new RegistryError('PreconditionFailed', 'It is there already (If-None-Match)');
}

/** A weak tag matches nothing here: what it stands for may differ. */
function listed(header: string, etag: string): boolean {
  return header.trim() === '*' || header.split(',').some((entry) => entry.trim() === etag);
}
