// Keeps connections busy, each with one request at a time, and says how many a second were answered and how fast: a
// process of its own, as wrk is, which waits for a body that the answer of a HEAD has not.
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Connection } from './connection.mjs';

export const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG = 'application/vnd.oci.empty.v1+json';
const LAYER_BYTES = 10 * 1024;

export const digestOf = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** What is done again and again: given a connection and what it goes to, does one of them. */
const deeds = {
  /** { path, headers, status } */
  async head(connection, { path, headers, status = 200 }) {
    const answer = await connection.ask({ method: 'HEAD', path, headers });
    if (answer.status !== status) throw new Error(`HEAD ${path}: ${answer.status}`);
  },

  /** A new artifact under a new tag; { repository, headers } */
  async artifact(connection, at) {
    await pushArtifact(connection, at);
  },
};

export async function expectStatus(connection, status, request) {
  const answer = await connection.ask(request);
  if (answer.status !== status) throw new Error(`${request.method} ${request.path}: ${answer.status} ${answer.body}`);
  return answer;
}

/** Pushes a blob by POST and PUT. @returns its descriptor */
export async function pushBlob(connection, { repository, headers }, bytes, mediaType = 'application/octet-stream') {
  const path = `/v2/${repository}/blobs/uploads/`;
  const opened = await expectStatus(connection, 202, { method: 'POST', path, headers });
  const location = opened.field('location').replace(/^https?:\/\/[^/]+/, '');
  const digest = digestOf(bytes);
  await expectStatus(connection, 201, {
    method: 'PUT',
    path: `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`,
    headers: { ...headers, 'content-type': 'application/octet-stream' },
    body: bytes,
  });
  return { mediaType, digest, size: bytes.length };
}

/** Pushes a manifest under a reference; `undefined`: its digest. @returns its descriptor */
export async function pushManifest(connection, { repository, headers }, manifest, reference) {
  const body = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, ...manifest }));
  const digest = digestOf(body);
  await expectStatus(connection, 201, {
    method: 'PUT',
    path: `/v2/${repository}/manifests/${reference ?? digest}`,
    headers: { ...headers, 'content-type': MANIFEST },
    body,
  });
  return { mediaType: MANIFEST, digest, size: body.length };
}

/** As `oras push` of a small file, but that it does not ask first: a blob, the empty config, a manifest, a tag. */
export async function pushArtifact(connection, at, tag = `t-${randomBytes(8).toString('hex')}`) {
  const layer = await pushBlob(connection, at, randomBytes(LAYER_BYTES));
  const config = await pushBlob(connection, at, Buffer.from('{}'), CONFIG);
  const manifest = await pushManifest(connection, at, { config, layers: [layer] }, tag);
  return { tag, manifest, layer, config };
}

/**
 * Runs one of `deeds` in a process of its own.
 * @param {{ port: number, deed: string, argument: object, connections: number, seconds: number }} work
 * @returns perSecond, p99 in milliseconds
 */
export async function load(work) {
  const child = fork(fileURLToPath(import.meta.url), { execArgv: [] });
  child.send(work);
  const [{ error, result }] = await once(child, 'message');
  await once(child, 'exit');
  if (error) throw new Error(error);
  return result;
}

/** The value below which this share of the numbers lies. */
export const quantile = (numbers, share) =>
  Float64Array.from(numbers).sort()[Math.min(numbers.length - 1, Math.floor(numbers.length * share))];

async function run({ port, deed, argument, connections, seconds }) {
  const spent = [];
  const begun = performance.now();
  const end = begun + seconds * 1000;
  const busy = async () => {
    const connection = new Connection(port);
    for (let now = performance.now(); now < end; ) {
      await deeds[deed](connection, argument);
      const then = performance.now();
      spent.push(then - now);
      now = then;
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: connections }, busy));
  return { perSecond: (spent.length * 1000) / (performance.now() - begun), p99: quantile(spent, 0.99) };
}

if (process.send && process.argv[1] === fileURLToPath(import.meta.url)) {
  const [work] = await once(process, 'message');
  const message = await run(work).then(
    (result) => ({ result }),
    (error) => ({ error: error.stack }),
  );
  process.send(message, () => process.disconnect());
}
