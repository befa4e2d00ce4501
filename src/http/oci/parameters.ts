import { RegistryError } from '../../errors.js';
import type { Context } from '../context.js';

/** A part of the path by its name in the route; empty if the route has none of that name. */
export function part(ctx: Context, name: string): string {
  const value: string | string[] | undefined = ctx.params[name];
  return Array.isArray(value) ? value.join('/') : (value ?? '');
}

/** A parameter of the query that may be given once, and without a NUL, which PostgreSQL can't hold. @throws 'ParameterInvalid' */
export function parameter(ctx: Context, name: string): string | undefined {
  const value = ctx.query[name];
  if (Array.isArray(value))
    throw new RegistryError('ParameterInvalid', `the parameter ${name} is given ${value.length} times`);
  if (value?.includes('\0')) throw new RegistryError('ParameterInvalid', `the parameter ${name} holds a NUL`);
  return value;
}

/** A parameter of the query that may be repeated. */
export function parameters(ctx: Context, name: string): readonly string[] {
  const value = ctx.query[name];
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}

/** The page that `n` and `last` ask for; `limit` is at most `max` entries. @throws 'ParameterInvalid' */
export function pageOf(ctx: Context, max: number): { limit: number; last: string } {
  const n = parameter(ctx, 'n');
  if (n !== undefined && !/^[0-9]{1,15}$/.test(n))
    throw new RegistryError('ParameterInvalid', 'the parameter n must be a whole number');
  const last = parameter(ctx, 'last') ?? '';
  return { limit: Math.min(n === undefined ? max : Number(n), max), last };
}

/** Sets the Link to the next page (RFC 8288): the same path, from `last` on. */
export function linkNext(ctx: Context, query: Readonly<Record<string, string>>): void {
  ctx.set('Link', `<${ctx.path}?${new URLSearchParams(query)}>; rel="next"`);
}
