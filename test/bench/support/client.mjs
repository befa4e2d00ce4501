// A client of HTTP that costs little: a process of its own, which sends one block of memory again and again, and reads
// into one buffer a connection. Run as a program it does what it is told over IPC; `startClient` starts it.
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { exchange } from './exchange.mjs';

const MiB = 1024 * 1024;
/** What a blob repeats; too much for the caches of a processor. */
const BLOCK_BYTES = 64 * MiB;
const PIECE_BYTES = MiB;
/** With which each blob ends, so that no two are the same. */
const TAIL_BYTES = 32;

/** @returns how to have it do one of `deeds`, one at a time, and how to end it. */
export function startClient() {
  const child = fork(fileURLToPath(import.meta.url), { execArgv: [] });
  let settle;
  child.on('message', ({ error, result }) => (error ? settle.reject(new Error(error)) : settle.resolve(result)));
  child.on('exit', (code) => settle?.reject(new Error(`the client ended with ${code}`)));
  const tell = (name, argument) =>
    new Promise((resolve, reject) => {
      settle = { resolve, reject };
      child.send({ name, argument });
    });
  return { tell, stop: () => child.kill() };
}

const block = process.send ? randomBytes(BLOCK_BYTES) : undefined;
/** Those that were made last; the first is meant where one is. */
let blobs = [];

/** Pieces that make up the bytes [start, end) of a blob. */
function* pieces({ length, tail }, start = 0, end = length) {
  const body = length - TAIL_BYTES;
  for (let at = start; at < Math.min(body, end); ) {
    const from = at % BLOCK_BYTES;
    const count = Math.min(PIECE_BYTES, BLOCK_BYTES - from, Math.min(body, end) - at);
    yield block.subarray(from, from + count);
    at += count;
  }
  if (end > body) yield tail.subarray(Math.max(start - body, 0), end - body);
}

function expect(answer, status, what) {
  if (answer.status !== status) throw new Error(`${what}: ${answer.status} instead of ${status}`);
}

const pathOf = (location) => location.replace(/^https?:\/\/[^/]+/, '');
const portOf = (location) => Number(new URL(location).port);
const secondsSince = (begun) => (performance.now() - begun) / 1000;

function makeBlob(length) {
  const blob = { length, tail: randomBytes(TAIL_BYTES) };
  const hash = createHash('sha256');
  for (const piece of pieces(blob)) hash.update(piece);
  blob.digest = `sha256:${hash.digest('hex')}`;
  return blob;
}

/** Opens a session. @returns its path, to which `digest=…` can be added */
async function begin({ port, repository, headers }) {
  const path = `/v2/${repository}/blobs/uploads/`;
  const opened = await exchange({ port, method: 'POST', path, headers: { ...headers, 'content-length': 0 } });
  expect(opened, 202, 'POST');
  return pathOf(opened.headers.location);
}

const withDigest = (path, { digest }) => `${path}${path.includes('?') ? '&' : '?'}digest=${digest}`;

async function putBlob(blob, at) {
  const path = withDigest(await begin(at), blob);
  const headers = { ...at.headers, 'content-length': blob.length, 'content-type': 'application/octet-stream' };
  const put = await exchange({ port: at.port, method: 'PUT', path, headers, body: pieces(blob) });
  expect(put, 201, 'PUT');
  return { seconds: put.seconds, afterLastByte: put.afterLastByte };
}

/** Reads a blob, or of it the bytes [start, end), and counts them. */
async function getBlob(blob, { port, repository, headers, url }, { start = 0, end = blob.length, eat } = {}) {
  const isWhole = start === 0 && end === blob.length;
  const range = isWhole ? {} : { range: `bytes=${start}-${end - 1}` };
  let answer;
  const path = `/v2/${repository}/blobs/${blob.digest}`;
  if (!url) answer = await exchange({ port, method: 'GET', path, headers: { ...headers, ...range } }, eat);
  const from = answer?.status === 307 ? answer.headers.location : url;
  if (from) answer = await exchange({ port: portOf(from), method: 'GET', path: pathOf(from), headers: range }, eat);
  expect(answer, isWhole ? 200 : 206, 'GET');
  if (answer.received !== end - start) throw new Error(`${answer.received} bytes came`);
  return Boolean(from && !url);
}

/** `at`: { port, repository, headers? }. */
const deeds = {
  /** Makes blobs that nobody has seen. @returns their digests */
  make({ length, count = 1 }) {
    blobs = Array.from({ length: count }, () => makeBlob(length));
    return { digests: blobs.map(({ digest }) => digest) };
  },

  /** Pushes one by one PUT. */
  async push(at) {
    return await putBlob(blobs[0], at);
  },

  /** Pushes it by PATCHes of `chunk` bytes and a PUT without a body. */
  async pushChunked({ chunk, ...at }) {
    const [blob] = blobs;
    const begun = performance.now();
    let path = await begin(at);
    for (let start = 0; start < blob.length; start += chunk) {
      const end = Math.min(start + chunk, blob.length);
      const fields = { 'content-type': 'application/octet-stream', 'content-range': `${start}-${end - 1}` };
      const headers = { ...at.headers, ...fields, 'content-length': end - start };
      const patched = await exchange({ port: at.port, method: 'PATCH', path, headers, body: pieces(blob, start, end) });
      expect(patched, 202, 'PATCH');
      path = pathOf(patched.headers.location);
    }
    const headers = { ...at.headers, 'content-length': 0 };
    const put = await exchange({ port: at.port, method: 'PUT', path: withDigest(path, blob), headers });
    expect(put, 201, 'PUT');
    return { seconds: secondsSince(begun), commit: put.seconds };
  },

  /** Pushes all at once, by a PUT each. */
  async pushAll(at) {
    const begun = performance.now();
    await Promise.all(blobs.map((blob) => putBlob(blob, at)));
    return { seconds: secondsSince(begun) };
  },

  /** Sends one to an address that was signed for it. */
  async put({ url }) {
    const [blob] = blobs;
    const headers = { 'content-length': blob.length };
    const put = await exchange({ port: portOf(url), method: 'PUT', path: pathOf(url), headers, body: pieces(blob) });
    expect(put, 200, 'PUT');
    return { seconds: put.seconds, afterLastByte: put.afterLastByte };
  },

  /** Writes one to a file, and waits until it is on the disk. */
  async save({ path }) {
    const file = await open(path, 'wx');
    for (const piece of pieces(blobs[0])) await file.writeFile(piece);
    await file.sync();
    await file.close();
  },

  /** Pulls one from a registry, whither it is sent, or from `url`. `check`: hashes it, which takes time. */
  async pull({ check = false, ...at }) {
    const [blob] = blobs;
    const hash = check ? createHash('sha256') : undefined;
    const begun = performance.now();
    const redirected = await getBlob(blob, at, { eat: hash && ((bytes) => hash.update(bytes)) });
    if (hash && `sha256:${hash.digest('hex')}` !== blob.digest) throw new Error('other bytes came');
    return { seconds: secondsSince(begun), redirected };
  },

  /** Pulls the same one by several streams at once, each of them all of it. */
  async pullMany({ streams, ...at }) {
    const begun = performance.now();
    await Promise.all(Array.from({ length: streams }, () => getBlob(blobs[0], at)));
    return { seconds: secondsSince(begun) };
  },

  /** Pulls it once, by ranges at once. */
  async pullRanges({ ranges, ...at }) {
    const [blob] = blobs;
    const edges = Array.from({ length: ranges + 1 }, (_, index) => Math.floor((blob.length * index) / ranges));
    const begun = performance.now();
    await Promise.all(edges.slice(1).map((end, index) => getBlob(blob, at, { start: edges[index], end })));
    return { seconds: secondsSince(begun) };
  },
};

if (process.send)
  process.on('message', async ({ name, argument }) => {
    try {
      process.send({ result: await deeds[name](argument) });
    } catch (error) {
      process.send({ error: error.stack });
    }
  });
