import { Agent, createServer, get, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { readByArrivals } from '../../../../src/storage/s3/arrivals.js';
import { Received } from '../../../../src/storage/s3/received.js';
import { pattern } from '../segment-store-contract.js';

const MiB = 1024 * 1024;
const BODY = pattern(5 * MiB + 123);
const SILENCE_MS = 5_000;

describe('The body of an answer', () => {
  let server: Server;
  let answer: (response: ServerResponse) => void;
  let connections = 0;
  let agent: Agent;
  let buffers: Buffer[];

  beforeEach(async () => {
    connections = 0;
    agent = readByArrivals(new Agent({ keepAlive: true }));
    buffers = Array.from({ length: 3 }, () => Buffer.allocUnsafeSlow(100_000));
    server = createServer((_request, response) => answer(response)).on('connection', () => {
      connections += 1;
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterEach(async () => {
    agent.destroy();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  async function ask(): Promise<IncomingMessage> {
    const { port } = server.address() as AddressInfo;
    return await new Promise((resolve, reject) => {
      get({ port, host: '127.0.0.1', agent }, resolve).on('error', reject);
    });
  }

  /** Reads it, slowly where `wait` says so. @returns its bytes, and how many pieces were in our buffers. */
  async function read(received: Received, wait: (piece: number) => number = () => 0) {
    const pieces: Buffer[] = [];
    let lent = 0;
    for (let piece = await received.next(SILENCE_MS); piece; piece = await received.next(SILENCE_MS)) {
      if (wait(pieces.length) > 0) await sleep(wait(pieces.length));
      const inside = piece.buffer;
      if (buffers.some(({ buffer }) => buffer === inside)) lent += 1;
      pieces.push(Buffer.from(piece));
    }
    received.close();
    return { bytes: Buffer.concat(pieces), lent };
  }

  const whole = (response: ServerResponse) => {
    response.setHeader('Content-Length', BODY.length);
    response.end(BODY);
  };

  for (const [speed, wait] of Object.entries({
    'a fast reader': () => 0,
    'a slow reader': () => 10,
    'a reader that stops now and then': (piece: number) => (piece % 7 === 0 ? 50 : 0),
  }))
    it(`arrives in our buffers, for ${speed}`, async () => {
      answer = whole;
      const { bytes, lent } = await read(new Received(await ask(), BODY.length, buffers), wait);
      expect(bytes.equals(BODY)).to.equal(true);
      expect(lent).to.be.greaterThan(30);
    });

  it('arrives whole in small pieces, and when its reader is faster', async () => {
    answer = (response) => {
      response.setHeader('Content-Length', BODY.length);
      let at = 0;
      const more = () => {
        response.write(BODY.subarray(at, at + 77_777));
        at += 77_777;
        if (at < BODY.length) setTimeout(more, 1);
        else response.end();
      };
      more();
    };
    const { bytes, lent } = await read(new Received(await ask(), BODY.length, buffers));
    expect(bytes.equals(BODY)).to.equal(true);
    expect(lent).to.be.greaterThan(0);
  });

  it('leaves its connection to the next one if it is small', async () => {
    const small = BODY.subarray(0, 10_000);
    answer = (response) => void response.setHeader('Content-Length', small.length).end(small);
    for (let time = 0; time < 3; time++) {
      expect((await read(new Received(await ask(), small.length, []))).bytes.equals(small)).to.equal(true);
      await sleep(20);
    }
    expect(connections).to.equal(1);
  });

  it('is read by the parser where it comes in chunks', async () => {
    answer = (response) => {
      response.write(BODY.subarray(0, 1_000_000));
      response.end(BODY.subarray(1_000_000));
    };
    const { bytes, lent } = await read(new Received(await ask(), BODY.length, buffers), (piece) => piece % 2);
    expect(bytes.equals(BODY)).to.equal(true);
    expect(lent).to.equal(0);
  });

  it('ends early with what came when its connection breaks', async () => {
    answer = (response) => {
      response.setHeader('Content-Length', BODY.length);
      response.write(BODY.subarray(0, 3 * MiB), () => setTimeout(() => response.destroy(), 50));
    };
    const { bytes } = await read(new Received(await ask(), BODY.length, buffers));
    expect(bytes.length).to.be.within(1, 3 * MiB);
    expect(bytes.equals(BODY.subarray(0, bytes.length))).to.equal(true);
  });

  it('ends early when nothing comes for a while', async () => {
    answer = (response) => {
      response.setHeader('Content-Length', BODY.length);
      response.write(BODY.subarray(0, MiB));
    };
    const received = new Received(await ask(), BODY.length, buffers);
    let size = 0;
    for (let piece = await received.next(100); piece; piece = await received.next(100)) size += piece.length;
    expect(size).to.equal(MiB);
    received.close();
  });

  it('leaves its buffers alone once it is closed', async () => {
    answer = whole;
    const received = new Received(await ask(), BODY.length, buffers);
    await received.next(SILENCE_MS);
    received.close();
    received.close();
    for (const buffer of buffers) buffer.fill(7);
    await sleep(50);
    for (const buffer of buffers) expect(buffer.every((byte) => byte === 7)).to.equal(true);
  });
});
