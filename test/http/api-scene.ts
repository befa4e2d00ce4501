// What the tests of the metadata API have in common: short ways to ask it, and to push what it speaks of.
import { expect } from 'chai';
import { api, type ApiAnswer, type ApiOptions } from '../support/api.js';
import type { TestServer } from '../support/server.js';
import { bytesOf, digestOf, imageOf, pushBlob, pushConfig, putManifest, type TestDescriptor } from './content.js';

export const TITLE = 'org.opencontainers.image.title';

/** A resource of the API; the contract says what it has. */
// biome-ignore lint/suspicious/noExplicitAny: every answer was checked against the contract before a test reads it.
export type Resource = Record<string, any>;

export type Ask = (method: string, path: string, body?: unknown, options?: ApiOptions) => Promise<ApiAnswer<Resource>>;

/** Asks a server, whatever the answer. */
export function asker(server: TestServer): Ask {
  return async (method, path, body, options = {}) =>
    await api<Resource>(server, method, path, { ...options, ...(body === undefined ? {} : { body }) });
}

/** What is answered with this status; otherwise the test fails and shows the answer. */
export async function told(answer: Promise<ApiAnswer<Resource>>, status = 200): Promise<Resource> {
  const { status: given, body, bytes } = await answer;
  expect(given, bytes.toString('utf8').slice(0, 500)).to.equal(status);
  return body;
}

/** The places that a 422 names, each once. */
export async function faultsOf(answer: Promise<ApiAnswer<Resource>>): Promise<string[]> {
  const { detail } = await told(answer, 422);
  return [...new Set((detail as { loc: (string | number)[] }[]).map(({ loc }) => loc.join('.')))].sort();
}

/** Every entry of a list, read in pages of `limit`. */
export async function allPages(ask: Ask, path: string, limit = 2): Promise<Resource[]> {
  const items: Resource[] = [];
  let next: string | null = `/api/v1${path}${path.includes('?') ? '&' : '?'}limit=${limit}`;
  while (next !== null) {
    const answer = await ask('GET', next);
    const page = await told(Promise.resolve(answer));
    items.push(...(page.items as Resource[]));
    const link = /^<([^>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
    expect(link === undefined, 'a Link, if there is a next page').to.equal(page.next === null);
    if (link) expect(new URL(link, 'http://x').searchParams.get('cursor')).to.equal(page.next);
    next = link ?? null;
  }
  return items;
}

/** Files by path, as layers with titles: the blobs are pushed. */
export async function pushLayers(
  server: TestServer,
  repository: string,
  files: Readonly<Record<string, string>>,
): Promise<TestDescriptor[]> {
  return await Promise.all(
    Object.entries(files).map(async ([path, text]) => {
      const bytes = Buffer.from(text);
      const digest = await pushBlob(server, repository, bytes);
      const mediaType = 'application/octet-stream';
      return { mediaType, digest, size: bytes.length, annotations: { [TITLE]: path } };
    }),
  );
}

/** Pushes files as one manifest, as `oras push` does. @returns its bytes */
export async function pushFiles(
  server: TestServer,
  repository: string,
  tag: string | undefined,
  files: Readonly<Record<string, string>>,
  more: Readonly<Record<string, unknown>> = {},
): Promise<Buffer> {
  const layers = await pushLayers(server, repository, files);
  const manifest = imageOf(await pushConfig(server, repository), layers, more);
  const pushed = await putManifest(server, repository, tag ?? digestOf(manifest), manifest);
  expect(pushed.status, await pushed.text()).to.equal(201);
  return manifest;
}

/** Pushes weights of their own content under a tag, so that a model and its release come of it. @returns the digest */
export async function pushRelease(server: TestServer, repository: string, tag: string, seed = tag): Promise<string> {
  const text = bytesOf(`${repository} ${seed}`, 64).toString('hex');
  return digestOf(await pushFiles(server, repository, tag, { 'model.safetensors': text, 'config.json': '{}' }));
}

/** The release of a tag, as it is listed. */
export async function releaseOf(ask: Ask, model: string, tag: string): Promise<Resource> {
  const { items } = await told(ask('GET', `/models/${encodeURIComponent(model)}/releases?limit=1000`));
  const found = (items as Resource[]).find((release) => release.tag === tag);
  expect(found, `the release ${tag} of ${model}`).to.be.an('object');
  return found ?? {};
}
