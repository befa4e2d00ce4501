import Router from '@koa/router';
import { RegistryError } from '../../errors.js';
import type { Context, RequestState } from '../context.js';
import { type BlobRoutesOptions, blobHandlers } from './blobs.js';
import { type ListRoutesOptions, listHandlers } from './lists.js';
import { type ManifestRoutesOptions, manifestHandlers } from './manifests.js';
import { type UploadRoutesOptions, uploadHandlers } from './uploads.js';

export interface OciRoutesOptions
  extends BlobRoutesOptions,
    UploadRoutesOptions,
    ManifestRoutesOptions,
    ListRoutesOptions {}

/** The endpoints of the distribution specification ("Endpoints"), line by line. A name may hold any number of slashes. */
export function ociRoutes(options: OciRoutesOptions): Router<RequestState> {
  const router = new Router<RequestState>({ sensitive: true });
  const blobs = blobHandlers(options);
  const uploads = uploadHandlers(options);
  const manifests = manifestHandlers(options);
  const lists = listHandlers(options);

  router.get('/v2{/}', (ctx) => {
    ctx.status = 200;
    ctx.body = '{}';
    ctx.set('Content-Type', 'application/json');
  });
  router.get('/v2/_catalog', lists.catalog);

  router.post('/v2/*name/blobs/uploads{/}', uploads.post);
  router.patch('/v2/*name/blobs/uploads/:upload{/}', uploads.patch);
  router.put('/v2/*name/blobs/uploads/:upload{/}', uploads.put);
  router.get('/v2/*name/blobs/uploads/:upload{/}', uploads.get);
  router.delete('/v2/*name/blobs/uploads/:upload{/}', uploads.cancel);

  router.head('/v2/*name/blobs/:digest', blobs.head);
  router.get('/v2/*name/blobs/:digest', blobs.get);
  router.delete('/v2/*name/blobs/:digest', blobs.remove);

  router.get('/v2/*name/manifests/:reference', manifests.get);
  router.put('/v2/*name/manifests/:reference', manifests.put);
  router.delete('/v2/*name/manifests/:reference', manifests.remove);

  router.get('/v2/*name/tags/list', lists.tags);
  router.get('/v2/*name/referrers/:digest', lists.referrers);

  return router;
}

/**
 * Refuses what no route took.
 * @throws 'MethodUnsupported', with the methods that the path knows, or 'RouteUnknown'
 */
export function unrouted(ctx: Pick<Context, 'matched'>): never {
  const allowed = new Set((ctx.matched ?? []).flatMap((route) => route.methods));
  if (allowed.size === 0) throw new RegistryError('RouteUnknown', 'no such endpoint');
  throw new RegistryError('MethodUnsupported', 'this endpoint does not support this method', {
    detail: { allowed: [...allowed].sort() },
  });
}
