import { invalid, notFound } from '../../metadata/failures.js';
import type { Metadata } from '../../metadata/metadata.js';
import { getRelease } from '../../metadata/releases.js';
import { listUsage, readUsage } from '../../policies/usage.js';
import { NO_USAGE, readReleaseUsage, readUsageDays } from '../../policies/usage-days.js';
import { permit } from '../authenticate.js';
import type { Context } from '../context.js';
import { sendJson, sendPage } from './answer.js';
import { rightsOf } from './caller.js';
import type { CheckedRequest } from './contract.js';
import { pageOf } from './requests.js';

const DAY_MS = 24 * 60 * 60 * 1000;
/** Days that are told at once, and how many if nobody says. */
const MAX_DAYS = 1_000;
const DAYS = 30;

/** The handlers of usage: how many bytes there are of what one may read. */
export function usageHandlers(metadata: Metadata) {
  async function get(ctx: Context): Promise<void> {
    ctx.set('Cache-Control', 'private, no-cache');
    sendJson(ctx, 200, await metadata.read((queries) => readUsage(queries, rightsOf(ctx))));
  }

  const list = (of: 'repositories' | 'models') => async (ctx: Context, request: CheckedRequest) => {
    sendPage(ctx, await metadata.read((queries) => listUsage(queries, rightsOf(ctx), of, pageOf(request))));
  };

  /** Of a repository that one may read; of all for those who may read all. */
  async function days(ctx: Context, { query }: CheckedRequest): Promise<void> {
    const { repository } = query as { repository?: string };
    const rights = rightsOf(ctx);
    if (repository === undefined && !rights.seesAll) permit(ctx, ctx.state.access.decideAdmin('read'));
    if (repository !== undefined && !rights.maySee(repository)) throw notFound('Repository');
    const { since, until } = rangeOf(query as { since?: string; until?: string });
    const items = await metadata.read((queries) => readUsageDays(queries, since, until, repository));
    ctx.set('Cache-Control', 'private, no-cache');
    sendJson(ctx, 200, { items });
  }

  async function release(ctx: Context, { path }: CheckedRequest): Promise<void> {
    const usage = await metadata.read(async (queries) => {
      const { image_repository, digest } = await getRelease(queries, rightsOf(ctx), path.id ?? '');
      return digest === null ? NO_USAGE : await readReleaseUsage(queries, image_repository, digest);
    });
    ctx.set('Cache-Control', 'private, no-cache');
    sendJson(ctx, 200, usage);
  }

  return { get, repositories: list('repositories'), models: list('models'), days, release };
}

/** @throws 'Invalid' for an end before the beginning, or more days than are told at once */
function rangeOf(said: { since?: string; until?: string }): { since: string; until: string } {
  const until = said.until ?? dayOf(Date.now());
  const since = said.since ?? dayOf(Date.parse(until) - (DAYS - 1) * DAY_MS);
  const count = (Date.parse(until) - Date.parse(since)) / DAY_MS + 1;
  if (count >= 1 && count <= MAX_DAYS) return { since, until };
  const msg = count < 1 ? 'lies after until' : `more than ${MAX_DAYS} days before until`;
  throw invalid({ loc: ['query', 'since'], msg, type: 'value_error' });
}

function dayOf(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}
