// A client of HTTP that costs little: a process of its own, which sends one block of memory again and again, and reads into
// one buffer. Run as a program it does what it is told over IPC; `startClient` starts it.
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';

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
let blob;

/** Pieces that make up the blob of `length` bytes. */
function* pieces({ length, tail }) {
  const body = length - TAIL_BYTES;
  for (let at = 0; at < body; at += PIECE_BYTES) {
    const from = at % BLOCK_BYTES;
    yield block.subarray(from, Math.min(from + PIECE_BYTES, from + body - at));
  }
  yield tail;
}

/** Sends a head and, if any, a body; reads the answer into one buffer. */
async function exchange({ port, method, path, headers = {}, body }, eat) {
  let taken = '';
  let answer;
  let received = 0;
  let done;
  const ended = new Promise((resolve, reject) => {
    done = { resolve, reject };
  });
  const take = (bytes) => {
    if (!answer) {
      taken += bytes.toString('latin1');
      const at = taken.indexOf('\r\n\r\n');
      if (at < 0) return;
      const [status, ...lines] = taken.slice(0, at).split('\r\n');
      const fields = lines.map((line) => [
        line.slice(0, line.indexOf(':')).toLowerCase(),
        line.slice(line.indexOf(':') + 1).trim(),
      ]);
      answer = { status: Number(status.split(' ')[1]), headers: Object.fromEntries(fields), at: performance.now() };
      if (answer.status === 100) {
        answer = undefined;
        taken = '';
        return;
      }
      received = taken.length - at - 4;
      eat?.(Buffer.from(taken.slice(at + 4), 'latin1'));
    } else {
      received += bytes.length;
      eat?.(bytes);
    }
    if (received >= Number(answer.headers['content-length'] ?? 0)) done.resolve();
  };
  const buffer = Buffer.allocUnsafeSlow(MiB);
  const socket = connect({
    port,
    host: '127.0.0.1',
    noDelay: true,
    onread: {
      buffer,
      callback(count) {
        take(buffer.subarray(0, count));
        return true;
      },
    },
  });
  socket.on('error', done.reject).on('close', () => done.reject(new Error(`closed after ${received} bytes`)));
  const fields = Object.entries({ host: `127.0.0.1:${port}`, connection: 'close', ...headers });
  socket.write(`${method} ${path} HTTP/1.1\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`);
  const begun = performance.now();
  let lastByte = begun;
  if (body) {
    for (const piece of body) {
      if (!socket.write(piece)) await Promise.race([once(socket, 'drain'), ended]);
    }
    // When the kernel has the last byte.
    await Promise.race([new Promise((resolve) => socket.write('', resolve)), ended]);
    lastByte = performance.now();
  }
  await ended.finally(() => socket.destroy());
  return {
    ...answer,
    received,
    seconds: (performance.now() - begun) / 1000,
    afterLastByte: (answer.at - lastByte) / 1000,
  };
}

function expect(answer, status, what) {
  if (answer.status !== status) throw new Error(`${what}: ${answer.status} instead of ${status}`);
}

const pathOf = (location) => location.replace(/^https?:\/\/[^/]+/, '');
const portOf = (location) => Number(new URL(location).port);

const deeds = {
  /** Makes a blob that nobody has seen. */
  make({ length }) {
    blob = { length, tail: randomBytes(TAIL_BYTES) };
    const hash = createHash('sha256');
    for (const piece of pieces(blob)) hash.update(piece);
    blob.digest = `sha256:${hash.digest('hex')}`;
    return { digest: blob.digest };
  },

  /** Pushes it by one PUT. */
  async push({ port, repository }) {
    const opened = await exchange({
      port,
      method: 'POST',
      path: `/v2/${repository}/blobs/uploads/`,
      headers: { 'content-length': 0 },
    });
    expect(opened, 202, 'POST');
    const location = pathOf(opened.headers.location);
    const headers = { 'content-length': blob.length, 'content-type': 'application/octet-stream' };
    const path = `${location}${location.includes('?') ? '&' : '?'}digest=${blob.digest}`;
    const put = await exchange({ port, method: 'PUT', path, headers, body: pieces(blob) });
    expect(put, 201, 'PUT');
    return { seconds: put.seconds, afterLastByte: put.afterLastByte };
  },

  /** Sends it to an address that was signed for it. */
  async put({ url }) {
    const headers = { 'content-length': blob.length };
    const put = await exchange({ port: portOf(url), method: 'PUT', path: pathOf(url), headers, body: pieces(blob) });
    expect(put, 200, 'PUT');
    return { seconds: put.seconds, afterLastByte: put.afterLastByte };
  },

  /** Pulls it in one stream from a registry, whither it is sent, or from `url`. `check`: hashes it, which takes time. */
  async pull({ port, repository, url, check = false }) {
    const hash = check ? createHash('sha256') : undefined;
    const eat = hash && ((bytes) => hash.update(bytes));
    const begun = performance.now();
    let answer;
    if (!url) answer = await exchange({ port, method: 'GET', path: `/v2/${repository}/blobs/${blob.digest}` }, eat);
    const from = answer?.status === 307 ? answer.headers.location : url;
    if (from) answer = await exchange({ port: portOf(from), method: 'GET', path: pathOf(from) }, eat);
    expect(answer, 200, 'GET');
    if (answer.received !== blob.length) throw new Error(`${answer.received} bytes came`);
    if (hash && `sha256:${hash.digest('hex')}` !== blob.digest) throw new Error('other bytes came');
    return { seconds: (performance.now() - begun) / 1000, redirected: Boolean(from && !url) };
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
