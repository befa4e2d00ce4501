// What is pushed, and the shortest ways to push it.
import { createCipheriv, createHash } from 'node:crypto';
import { expect } from 'chai';
import type { TestServer } from '../support/server.js';

export const IMAGE = 'application/vnd.oci.image.manifest.v1+json';
export const INDEX = 'application/vnd.oci.image.index.v1+json';
export const LAYER = 'application/vnd.oci.image.layer.v1.tar';
export const CONFIG = 'application/vnd.oci.image.config.v1+json';

/** The same bytes for the same seed; not to be compressed. */
export function bytesOf(seed: string, size: number): Buffer {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

export function digestOf(bytes: Buffer | string, algorithm: 'sha256' | 'sha512' = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

export interface TestDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export function descriptorOf(bytes: Buffer, mediaType: string, algorithm?: 'sha256' | 'sha512'): TestDescriptor {
  return { mediaType, digest: digestOf(bytes, algorithm), size: bytes.length };
}

/** The text of an image manifest; `more` adds fields or, as undefined, takes them away. */
export function imageOf(
  config: TestDescriptor,
  layers: readonly TestDescriptor[],
  more: Readonly<Record<string, unknown>> = {},
): Buffer {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: IMAGE, config, layers, ...more }));
}

export function indexOf(manifests: readonly TestDescriptor[], more: Readonly<Record<string, unknown>> = {}): Buffer {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests, ...more }));
}

/** Pushes a blob by a single POST. */
export async function pushBlob(
  server: TestServer,
  repository: string,
  bytes: Buffer,
  algorithm?: 'sha256' | 'sha512',
): Promise<string> {
  const digest = digestOf(bytes, algorithm);
  const pushed = await server.request('POST', `/v2/${repository}/blobs/uploads/?digest=${digest}`, { body: bytes });
  expect(pushed.status, await pushed.text()).to.equal(201);
  return digest;
}

/** Pushes the config `{}` and answers its descriptor. */
export async function pushConfig(server: TestServer, repository: string, mediaType = CONFIG): Promise<TestDescriptor> {
  const bytes = Buffer.from('{}');
  await pushBlob(server, repository, bytes);
  return descriptorOf(bytes, mediaType);
}

export async function putManifest(
  server: TestServer,
  repository: string,
  reference: string,
  manifest: Buffer,
  mediaType = IMAGE,
): Promise<Response> {
  return await server.request('PUT', `/v2/${repository}/manifests/${reference}`, {
    headers: { 'content-type': mediaType },
    body: manifest,
  });
}

/** Pushes an image with an empty config and the given fields; the repository is made by it. @returns its bytes. */
export async function pushImage(
  server: TestServer,
  repository: string,
  reference: string | undefined,
  more: Readonly<Record<string, unknown>> = {},
): Promise<Buffer> {
  const manifest = imageOf(await pushConfig(server, repository), [], more);
  const pushed = await putManifest(server, repository, reference ?? digestOf(manifest), manifest);
  expect(pushed.status, await pushed.text()).to.equal(201);
  return manifest;
}

/** Opens an upload session. @returns its location. */
export async function openUpload(server: TestServer, repository: string, query = ''): Promise<string> {
  const opened = await server.request('POST', `/v2/${repository}/blobs/uploads/${query}`, {
    headers: { 'content-length': '0' },
  });
  expect(opened.status, await opened.text()).to.equal(202);
  return locationOf(opened);
}

export function locationOf(answer: Response): string {
  const location = answer.headers.get('location');
  expect(location).to.be.a('string').that.is.not.empty;
  return location ?? '';
}

/** One chunk by PATCH, with a Content-Range if `from` is given. */
export async function patch(server: TestServer, location: string, bytes: Buffer, from?: number): Promise<Response> {
  const range = from === undefined ? undefined : `${from}-${from + bytes.length - 1}`;
  return await server.request('PATCH', location, {
    headers: { 'content-type': 'application/octet-stream', ...(range ? { 'content-range': range } : {}) },
    body: bytes,
  });
}

/** The closing PUT. */
export async function close(server: TestServer, location: string, digest: string, bytes?: Buffer): Promise<Response> {
  const query = `${location.includes('?') ? '&' : '?'}digest=${digest}`;
  return await server.request('PUT', `${location}${query}`, bytes ? { body: bytes } : {});
}

/** The offset that a session tells. */
export async function offsetOf(server: TestServer, location: string): Promise<number> {
  const status = await server.request('GET', location);
  expect(status.status).to.equal(204);
  return Number(status.headers.get('upload-offset'));
}

/** Asks for the offset until it is `wanted`: a connection that was cut is noticed a little later. */
export async function untilOffset(server: TestServer, location: string, wanted: number): Promise<void> {
  let offset = 0;
  for (const deadline = performance.now() + 20_000; performance.now() < deadline; ) {
    offset = await offsetOf(server, location);
    if (offset === wanted) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  expect(offset).to.equal(wanted);
}

/** The blob is there, and is these bytes. */
export async function expectBlob(server: TestServer, repository: string, bytes: Buffer, digest = digestOf(bytes)) {
  const pulled = await server.request('GET', `/v2/${repository}/blobs/${digest}`);
  expect(pulled.status).to.equal(200);
  expect(pulled.headers.get('docker-content-digest')).to.equal(digest);
  expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes), 'the bytes that were pushed').to.equal(true);
}

/** An answer with this status whose body is an error of this code in the specification's form. */
export async function expectError(answer: Response, status: number, code: string): Promise<{ detail?: unknown }> {
  const text = await answer.text();
  expect(answer.status, text).to.equal(status);
  expect(answer.headers.get('content-type')).to.match(/^application\/json/);
  const { errors } = JSON.parse(text) as { errors: { code: string; message: string; detail?: unknown }[] };
  expect(errors).to.have.lengthOf(1);
  expect(errors[0]?.code).to.equal(code);
  expect(errors[0]?.message).to.be.a('string').that.is.not.empty;
  return errors[0] ?? {};
}
