// One request of HTTP/1.1 on a connection of its own, for long bodies: it is sent from memory that is there, and what
// comes is read into one buffer and thrown away.
import { once } from 'node:events';
import { connect } from 'node:net';

const BUFFER_BYTES = 1024 * 1024;

/**
 * Sends a head and, if any, a body; reads the answer into one buffer.
 * @param {{ port: number, method: string, path: string, headers?: object, body?: Iterable<Uint8Array> }} request
 * @param eat given the bytes of the answer's body, which hold for the call only
 * @returns status, headers, bytes received, seconds, and the seconds from the last byte sent to the answer's head
 */
export async function exchange({ port, method, path, headers = {}, body }, eat) {
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
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
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
