import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import fc from 'fast-check';
import { recycle } from '../../../src/arrival-buffers.js';
import { BodyPastParser } from '../../../src/http/past-parser.js';
import { readRequest } from '../../../src/http/request-body.js';
import { pattern } from '../storage/segment-store-contract.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const IDLE_MS = 10_000;

describe('a long body past the parser', () => {
  let server: Server;
  let socket: Socket;
  /** What the server does with the body of each request, and what it read. */
  let pauses: readonly number[];
  let stopAfter: number;
  let bodies: Buffer[];
  let answers: string;

  beforeEach(async () => {
    pauses = [];
    stopAfter = Number.POSITIVE_INFINITY;
    bodies = [];
    answers = '';
    server = createServer((request, response) => {
      const read = async () => {
        const chunks: Buffer[] = [];
        let size = 0;
        for await (const chunk of readRequest(request, response, IDLE_MS)) {
          chunks.push(Buffer.from(chunk));
          size += chunk.length;
          // Whoever still used it would see that.
          if (chunk.length > 64 * KiB) chunk.fill(0);
          recycle(chunk);
          if (size >= stopAfter) break;
          const pause = pauses[chunks.length % pauses.length];
          if (pause) await sleep(pause);
        }
        bodies.push(Buffer.concat(chunks));
        request.resume();
        response.end('.');
      };
      void read().catch((error: Error) => response.destroy(error));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('data', (bytes) => {
      answers += bytes.toString('latin1');
    });
  });

  afterEach(async () => {
    socket.destroy();
    server.close();
    await once(server, 'close');
  });

  const headOf = (length: number) => `PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: ${length}\r\n\r\n`;
  const answered = async (count: number) => {
    while ([...answers.matchAll(/HTTP\/1\.1 200/g)].length < count) await once(socket, 'data');
  };

  it('is taken by this version of Node', async () => {
    const seen = new Promise<boolean>((resolve) => {
      server.removeAllListeners('request').on('request', (request) => {
        const take = async () => {
          const body = await BodyPastParser.take(request, 4 * MiB, () => undefined);
          body?.close();
          resolve(body !== undefined);
        };
        void take();
      });
    });
    socket.write(headOf(4 * MiB));
    expect(await seen).to.equal(true);
  });

  it('comes whole however it is sent and read, and the connection goes on', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            length: fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: MiB, max: 3 * MiB })),
            pieces: fc.array(fc.integer({ min: 20 * KiB, max: 700 * KiB }), { minLength: 1, maxLength: 5 }),
          }),
          { minLength: 1, maxLength: 4 },
        ),
        fc.array(fc.constantFrom(0, 0, 0, 1, 3), { maxLength: 4 }),
        async (requests, readerPauses) => {
          pauses = readerPauses;
          bodies = [];
          answers = '';
          const sent = requests.map(({ length }, index) => pattern(length + index).subarray(index));
          for (const [index, { length, pieces }] of requests.entries()) {
            socket.write(headOf(length));
            for (let at = 0, count = 0; at < length; count++) {
              const size = pieces[count % pieces.length] ?? 1;
              socket.write(sent[index]?.subarray(at, at + size) ?? '');
              at += size;
              if (count % 3 === 2) await sleep(1);
            }
          }
          await answered(requests.length);
          expect(bodies.length).to.equal(sent.length);
          for (const bytes of sent) expect(bodies.some((body) => body.equals(bytes))).to.equal(true);
        },
      ),
      { numRuns: 25 },
    );
  });

  it('is passed on by the parser again when its reader stops', async () => {
    stopAfter = MiB;
    const bytes = pattern(8 * MiB);
    socket.write(headOf(bytes.length));
    socket.write(bytes);
    await answered(1);
    stopAfter = Number.POSITIVE_INFINITY;
    socket.write(headOf(bytes.length));
    socket.write(bytes);
    await answered(2);
    expect(bodies[1]?.equals(bytes)).to.equal(true);
  });

  it('is read as far as it came when the client stalls, and breaks off with it', async () => {
    const seen: Buffer[] = [];
    const failed = new Promise<unknown>((resolve) => {
      server.removeAllListeners('request').on('request', (request, response) => {
        const read = async () => {
          for await (const chunk of readRequest(request, response, IDLE_MS)) seen.push(Buffer.from(chunk));
        };
        void read().then(resolve, resolve);
      });
    });
    socket.write(headOf(8 * MiB));
    socket.write(pattern(300 * KiB));
    while (Buffer.concat(seen).length < 300 * KiB) await sleep(1);
    socket.destroy();
    expect(await failed).to.have.property('failure', 'ClientGone');
    expect(Buffer.concat(seen).equals(pattern(300 * KiB))).to.equal(true);
  });
});
