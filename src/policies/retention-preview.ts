import type { Queries } from '../database/connect.js';
import { type Page, type PageQuery, parseCursor, writeCursor } from '../database/pages.js';
import { readPolicies } from './policies.js';
import type { Retention, RetentionRule } from './retention.js';
import {
  type JudgedRelease,
  judgeReleases,
  type JudgeOptions,
  type Place,
  ruledModels,
  START,
} from './retention-judge.js';

/** What is looked at. */
export interface PreviewQuery {
  /** Only this model. */
  readonly model?: string | undefined;
  /** As if the policy of a pattern, or the model, said this. */
  readonly proposed?: { readonly pattern: string | undefined; readonly retention: Retention | null } | undefined;
  /** Those that stay, too. */
  readonly all: boolean;
}

/** A release under a rule. */
export interface PreviewedRelease extends Omit<JudgedRelease, 'repository'> {
  readonly repository: string;
  readonly goes: boolean;
  readonly rule: {
    readonly policy_id: string | null;
    readonly pattern: string | null;
    readonly model_id: string | null;
    readonly retention: Retention;
  };
}

const LIST = 'retention';
/** Models that are read at once, and looked at for one page: who asks comes again for more. */
const MODELS = 100;
const MODELS_A_PAGE = 1_000;

/**
 * Which releases would go now, and which rule has them go; by the same statements as the job asks before it removes them. A
 * page may be short, or empty, and yet others follow.
 * @throws 'PageInvalid'
 */
export async function previewRetention(
  queries: Queries,
  { model, proposed, all }: PreviewQuery,
  { limit, cursor }: Pick<PageQuery, 'limit' | 'cursor'>,
  options: JudgeOptions,
): Promise<Page<PreviewedRelease>> {
  const now = await readPolicies(queries);
  const isPattern = proposed?.pattern !== undefined;
  const policies = isPattern ? now.withRetention(proposed.pattern ?? '', proposed.retention) : now;
  const own = proposed && !isPattern && model !== undefined ? { model, retention: proposed.retention } : undefined;
  const items: PreviewedRelease[] = [];
  let place = placeOf(cursor);
  let { repository: from, tag: after } = place;
  for (let seen = 0; seen < MODELS_A_PAGE; seen += MODELS) {
    const { models, last } = await ruledModels(queries, policies, { from, limit: MODELS, model }, own);
    const rules = new Map(models.map((ruled) => [ruled.repository, ruled]));
    for (const { repository, ...release } of await judgeReleases(queries, policies, models, options)) {
      const goes = release.kept_by.length === 0;
      const ruled = rules.get(repository);
      if (!ruled || (!goes && !all) || (repository === from && release.tag <= after)) continue;
      if (items.length === limit) return { items, next: cursorOf(place) };
      items.push({ repository: ruled.name, ...release, goes, rule: show(ruled.rule) });
      place = { repository, tag: release.tag };
    }
    if (last === undefined) return { items, next: null };
    [from, after] = [last + 1, ''];
    if (items.length < limit) place = { repository: from, tag: after };
  }
  return { items, next: cursorOf(place) };
}

function show({ keep, by }: RetentionRule): PreviewedRelease['rule'] {
  return { policy_id: null, pattern: null, model_id: null, ...by, retention: keep };
}

function placeOf(cursor: string | undefined): Place {
  if (cursor === undefined) return START;
  const [tag, repository] = parseCursor(cursor, LIST, { type: 'text' }, 'bigint');
  return { repository: Number(repository), tag };
}

const cursorOf = ({ repository, tag }: Place) => writeCursor([LIST, tag, String(repository)]);
