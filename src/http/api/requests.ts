import { createHash } from 'node:crypto';
import type { Repeatable } from '../../metadata/idempotency.js';
import type { PageQuery } from '../../metadata/pages.js';
import { actorOf, type Context, pathOf } from '../context.js';
import type { CheckedRequest } from './contract.js';

const OF_THE_PAGE = new Set(['limit', 'cursor', 'sort', 'total']);

/** The page that a list is asked for. */
export function pageOf({ query }: CheckedRequest): PageQuery {
  const { limit = 50, cursor, sort, total } = query as Partial<PageQuery>;
  return { limit, cursor, sort, total };
}

/** The filters of a list: what its query says beside the page. `model_id` and `image_id` are older names of `model`. */
export function filtersOf<Filters>({ query }: CheckedRequest): Filters {
  const filters = Object.fromEntries(Object.entries(query).filter(([name]) => !OF_THE_PAGE.has(name)));
  const { model_id, image_id, ...others } = filters;
  const model = filters.model ?? model_id ?? image_id;
  return { ...others, ...(model === undefined ? {} : { model }) } as Filters;
}

/** Whether an admin wants it done whatever stands in the way. */
export function isForced({ query }: CheckedRequest): boolean {
  return query.force === true;
}

/** What makes a POST the same as an earlier one, if it has an Idempotency-Key. */
export function repeatable(
  ctx: Context,
  operation: string,
  { header, body }: CheckedRequest,
  content = JSON.stringify(body ?? null),
): Repeatable | undefined {
  const key = header['Idempotency-Key'];
  if (key === undefined) return undefined;
  const bodyDigest = createHash('sha256').update(content).digest('hex');
  return { actor: actorOf(ctx).key, route: `${operation} ${pathOf(ctx.req)}`, key, bodyDigest };
}
