import { createHash } from 'node:crypto';
import { invalid } from '../../metadata/failures.js';
import type { Repeatable } from '../../metadata/idempotency.js';
import type { PageQuery } from '../../metadata/pages.js';
import { parseParameterRange } from '../../weights/parameters.js';
import { type Context, pathOf } from '../context.js';
import { actorOf } from '../context.js';
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
  const { parameter_count } = others;
  return {
    ...others,
    ...(model === undefined ? {} : { model }),
    ...(parameter_count === undefined ? {} : { parameter_count: rangeOf(parameter_count) }),
  } as Filters;
}

function rangeOf(text: unknown) {
  const range = parseParameterRange(String(text));
  if (range) return range;
  throw invalid({
    loc: ['query', 'parameter_count'],
    msg: 'a number such as 7B, or a range: >=7000000000, <13B, 7B..13B',
    type: 'value_error',
  });
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
