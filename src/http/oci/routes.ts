import Router from '@koa/router';
import { RegistryError } from '../../errors.js';
import { permit } from '../authenticate.js';
import type { Context, RequestState } from '../context.js';
import { asSomebody, to, toCatalog, toUpload } from './access.js';
import { type BlobRoutesOptions, blobHandlers } from './blobs.js';
import { type ListRoutesOptions, listHandlers } from './lists.js';
import { type ManifestRoutesOptions, manifestHandlers } from './manifests.js';
import { type UploadRoutesOptions, uploadHandlers } from './uploads.js';

export interface OciRoutesOptions
  extends BlobRoutesOptions,
    UploadRoutesOptions,
    ManifestRoutesOptions,
    ListRoutesOptions {}

/**
 * The endpoints of the distribution specification ("Endpoints"), line by line, each with
 * the right that it takes. A name may hold any number of slashes.
 */
export function ociRoutes(options: OciRoutesOptions): Router<RequestState> {
  const router = new Router<RequestState>({ sensitive: true });
  const blobs = blobHandlers(options);
  const uploads = uploadHandlers(options);
  const manifests = manifestHandlers(options);
  const lists = listHandlers(options);

  const finish = toUpload(options.uploads);

  router.get('/v2{/}', asSomebody, (ctx) => {
    ctx.status = 200;
    ctx.body = '{}';
    ctx.set('Content-Type', 'application/json');
  });
  router.get('/v2/_catalog', toCatalog, lists.catalog);

  router.post('/v2/*name/blobs/uploads{/}', to('push'), uploads.post);
  router.patch('/v2/*name/blobs/uploads/:upload{/}', finish, uploads.patch);
  router.put('/v2/*name/blobs/uploads/:upload{/}', finish, uploads.put);
  router.get('/v2/*name/blobs/uploads/:upload{/}', finish, uploads.get);
  router.delete('/v2/*name/blobs/uploads/:upload{/}', finish, uploads.cancel);

  router.head('/v2/*name/blobs/:digest', to('pull'), blobs.head);
  router.get('/v2/*name/blobs/:digest', to('pull'), blobs.get);
  router.delete('/v2/*name/blobs/:digest', to('delete'), blobs.remove);

  router.get('/v2/*name/manifests/:reference', to('pull'), manifests.get);
  router.put('/v2/*name/manifests/:reference', to('push'), manifests.put);
  router.delete('/v2/*name/manifests/:reference', to('delete'), manifests.remove);

  router.get('/v2/*name/tags/list', to('pull'), lists.tags);
  router.get('/v2/*name/referrers/:digest', to('pull'), lists.referrers);

  return router;
}

/**
 * Refuses what no route took.
 * @throws 'Unauthorized' to nobody in particular; 'MethodUnsupported', with the methods that the path knows, or 'RouteUnknown'
 */
export function unrouted(ctx: Context): never {
  permit(ctx, ctx.state.access.decideBase());
  refuseMethod(ctx);
  throw new RegistryError('RouteUnknown', 'no such endpoint');
}

/** @throws 'MethodUnsupported', with the methods that the path knows, if it is the path of a route that was looked for */
export function refuseMethod(ctx: Context): void {
  const allowed = new Set((ctx.matched ?? []).flatMap((route) => route.methods));
  if (allowed.size === 0) return;
  throw new RegistryError('MethodUnsupported', 'this endpoint does not support this method', {
    detail: { allowed: [...allowed].sort() },
  });
}
