import { createHash } from 'node:crypto';
import { RegistryError } from '../../errors.js';
import { ifNoneMatch } from '../../oci/range.js';
import type { Context } from '../context.js';

/** A file that is served as it is. */
export interface StaticFile {
  readonly type: string;
  readonly bytes: Buffer;
}

export interface DocsOptions {
  /** By name: openapi.yaml, openapi.json, index.html, and the parts of the page, which it asks for below /api/docs/. */
  readonly loadDocs: () => Promise<ReadonlyMap<string, StaticFile>>;
}

/**
 * The page may load and ask nothing but this registry. Its styles are set by its scripts, which `unsafe-inline` allows;
 * scripts are only those in files.
 */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; " +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** The handlers of the contract's own pages. */
export function docsHandlers({ loadDocs }: DocsOptions) {
  let loaded: Promise<ReadonlyMap<string, StaticFile & { etag: string }>> | undefined;
  const load = async () => {
    loaded ??= loadDocs().then((files) => new Map([...files].map(([name, file]) => [name, tagged(file)])));
    try {
      return await loaded;
    } catch (error) {
      loaded = undefined;
      throw error;
    }
  };

  async function send(ctx: Context, name: string): Promise<void> {
    const found = (await load()).get(name);
    if (!found) throw new RegistryError('RouteUnknown', 'no such endpoint');
    const { type, bytes, etag } = found;
    ctx.set('ETag', etag);
    // To be asked for each time, so that a page never goes with scripts of another version.
    ctx.set('Cache-Control', 'no-cache');
    ctx.set('Content-Security-Policy', POLICY);
    if (ifNoneMatch(ctx.req.headers['if-none-match'], etag)) {
      ctx.status = 304;
      return;
    }
    ctx.status = 200;
    ctx.body = bytes;
    ctx.set('Content-Type', type);
  }

  const page = (ctx: Context) => send(ctx, 'index.html');
  const part = (ctx: Context) => send(ctx, ctx.params.file ?? '');
  const json = (ctx: Context) => send(ctx, 'openapi.json');
  const yaml = (ctx: Context) => send(ctx, 'openapi.yaml');

  return { page, part, json, yaml };
}

function tagged(file: StaticFile): StaticFile & { etag: string } {
  return { ...file, etag: `"${createHash('sha256').update(file.bytes).digest('base64url').slice(0, 22)}"` };
}
