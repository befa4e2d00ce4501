import { expect } from 'chai';
import type { Content } from '../../faults/support/bytes.js';
import { type Answer, Exchange, send } from '../../faults/support/exchange.js';

const PIECE = 256 * 1024;

/** Opens a session. @returns its path, the same on all nodes */
export async function beginAt(host: string, repository: string): Promise<string> {
  const begun = await send(host, 'POST', `/v2/${repository}/blobs/uploads/`);
  expect(begun?.status).to.equal(202);
  return begun?.headers.location ?? '';
}

/** PATCH of [start, end) with its Content-Range. @returns the answer; undefined: there was none. */
export async function chunkTo(
  host: string,
  path: string,
  content: Content,
  start: number,
  end: number,
): Promise<Answer | undefined> {
  const headers = { 'content-range': `${start}-${end - 1}`, 'content-length': end - start };
  const exchange = new Exchange(host, 'PATCH', path, headers);
  for (const piece of content.chunks(start, end, PIECE)) if (!(await exchange.write(piece))) break;
  exchange.end();
  return await exchange.answer;
}

/** All of [start, content.size) in chunks of this size, each to the next of the hosts. */
export async function chunksInTurn(
  hosts: readonly string[],
  path: string,
  content: Content,
  bytes: number,
  start = 0,
): Promise<void> {
  for (let at = start, turn = 0; at < content.size; at += bytes, turn++) {
    const end = Math.min(at + bytes, content.size);
    const answer = await chunkTo(hosts[turn % hosts.length] ?? '', path, content, at, end);
    expect([answer?.status, answer?.headers['upload-offset']], `the chunk at ${at}`).to.deep.equal([202, `${end}`]);
  }
}
