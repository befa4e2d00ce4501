import { parseDigest } from '../../oci/digest.js';
import { OCI_IMAGE_INDEX } from '../../oci/media-types.js';
import type { Referrer } from '../../registry/referrers.js';
import type { Lists } from '../../registry/lists.js';
import type { Context } from '../context.js';
import { linkNext, pageOf, parameter, part } from './parameters.js';

export interface ListRoutesOptions {
  readonly lists: Lists;
  readonly listMax: number;
  readonly referrersMaxBytes: number;
}

/** The handlers of lists (distribution-spec, "Listing Tags", "Listing Referrers"; Docker's `_catalog`). */
export function listHandlers({ lists, listMax, referrersMaxBytes }: ListRoutesOptions) {
  /** GET …/tags/list (end-8a, 8b). */
  async function tags(ctx: Context): Promise<void> {
    const name = ctx.state.repository;
    const page = pageOf(ctx, listMax);
    // One more than asked tells whether there is a next page.
    const found = await lists.tags(name, page.last, page.limit + 1);
    json(ctx, { name, tags: cut(ctx, found, page.limit) });
  }

  /** GET /v2/_catalog: the repositories that the key may see. */
  async function catalog(ctx: Context): Promise<void> {
    const page = pageOf(ctx, listMax);
    const found = await lists.repositories(page.last, page.limit + 1, (name) => ctx.state.access.maySee(name));
    json(ctx, { repositories: cut(ctx, found, page.limit) });
  }

  /** GET …/referrers/<digest> (end-12a, 12b): 200 also for a subject that is not there. */
  async function referrers(ctx: Context): Promise<void> {
    const { repository } = ctx.state;
    const subject = parseDigest(part(ctx, 'digest'));
    const artifactType = parameter(ctx, 'artifactType') || undefined;
    const { last } = pageOf(ctx, listMax);
    const page = await lists.referrers({ repository, subject, artifactType, last, maxBytes: referrersMaxBytes });
    const lastDigest = page.referrers.at(-1)?.digest;
    if (page.more && lastDigest) linkNext(ctx, { ...(artifactType ? { artifactType } : {}), last: lastDigest });
    if (artifactType) ctx.set('OCI-Filters-Applied', 'artifactType');
    json(
      ctx,
      { schemaVersion: 2, mediaType: OCI_IMAGE_INDEX, manifests: page.referrers.map(descriptor) },
      OCI_IMAGE_INDEX,
    );
  }

  return { tags, catalog, referrers };
}

/** The first `limit` of `found`, with a Link when there are more. */
function cut(ctx: Context, found: readonly string[], limit: number): readonly string[] {
  const page = found.slice(0, limit);
  const last = page.at(-1);
  if (found.length > limit && last !== undefined) linkNext(ctx, { n: String(limit), last });
  return page;
}

function descriptor({ mediaType, digest, size, artifactType, annotations }: Referrer) {
  return {
    mediaType,
    digest,
    size,
    ...(artifactType === null ? {} : { artifactType }),
    ...(annotations === null ? {} : { annotations }),
  };
}

function json(ctx: Context, value: unknown, type = 'application/json'): void {
  const text = JSON.stringify(value);
  ctx.status = 200;
  ctx.body = text;
  ctx.set('Content-Type', type);
}
