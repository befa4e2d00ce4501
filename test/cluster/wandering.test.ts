import { expect } from 'chai';
import { Content } from '../faults/support/bytes.js';
import { Exchange, pull, send } from '../faults/support/exchange.js';
import { ask } from '../faults/support/oracle.js';
import { memoryOf, until } from '../faults/support/processes.js';
import { Cluster, needCluster, type Node } from './support/cluster.js';
import { beginAt, chunksInTurn, chunkTo } from './support/turns.js';

const MiB = 1024 * 1024;
const REPOSITORY = 'wandering/model';
const MEMORY_MIB = 400;

describe('a session that wanders between nodes', () => {
  let cluster: Cluster;
  let nodes: readonly Node[];
  let hosts: string[];

  before(async function () {
    needCluster(this);
    cluster = await Cluster.start({ workers: 2, watched: true });
    nodes = cluster.nodes;
    hosts = nodes.map(({ server }) => server.host);
  });
  after(async () => await cluster?.dispose());

  const host = (index: number): string => hosts[index] ?? '';
  const blob = (content: Content): string => `/v2/${REPOSITORY}/blobs/${content.digest}`;
  const read = (): number[] => nodes.map(({ gateway }) => gateway?.bytes.read ?? 0);

  /** What each node reads from Ceph while `work` is done. */
  async function readBy(work: () => Promise<void>): Promise<number[]> {
    const before = read();
    await work();
    return read().map((bytes, index) => bytes - (before[index] ?? 0));
  }

  async function commit(at: string, path: string, content: Content): Promise<void> {
    const answer = await send(at, 'PUT', `${path}?digest=${content.digest}`);
    expect([answer?.status, answer?.body.toString()]).to.deep.equal([201, '']);
  }

  async function expectEverywhere(content: Content): Promise<void> {
    for (const at of hosts)
      expect(await pull(at, blob(content))).to.include({ status: 200, size: content.size, digest: content.digest });
  }

  it('is committed whole, and the cluster has read no byte of it twice, with flat memory', async () => {
    // Too large for the next to swallow.
    const content = new Content('large chunks', 120 * MiB);
    const bytes = await readBy(async () => {
      const path = await beginAt(host(0), REPOSITORY);
      await chunksInTurn(hosts, path, content, 5 * MiB);
      await commit(host(1), path, content);
    });
    expect(bytes.reduce((sum, count) => sum + count, 0)).to.be.within(1, content.size);
    await expectEverywhere(content);
    for (const { server } of nodes)
      for (const pid of await server.workers()) expect((await memoryOf(pid)).peak).to.be.below(MEMORY_MIB);
    console.log(`      read back: ${bytes.map((count) => Math.round(count / MiB)).join(' + ')} of 120 MiB`);
  });

  it('reads small chunks once, and once more for each doubling as they are swallowed', async () => {
    const content = new Content('small chunks', 40 * MiB);
    const bytes = await readBy(async () => {
      const path = await beginAt(host(2), REPOSITORY);
      await chunksInTurn(hosts, path, content, MiB);
      await commit(host(0), path, content);
    });
    // From 1 MiB to 4 MiB are two doublings.
    const all = bytes.reduce((sum, count) => sum + count, 0);
    expect(all).to.be.at.most(content.size * (1 + 2));
    await expectEverywhere(content);
    console.log(`      read back: ${bytes.map((count) => Math.round(count / MiB)).join(' + ')} of 40 MiB`);
  });

  it('is hashed once in the cluster, also when its digest is asked for in another algorithm', async () => {
    const content = new Content('sha512 at last', 24 * MiB);
    const wrong = `sha512:${'0'.repeat(128)}`;
    const path = await beginAt(host(0), REPOSITORY);
    await chunksInTurn([host(0)], path, content, 8 * MiB);
    const bytes = await readBy(async () => {
      for (const at of [...hosts, ...hosts])
        expect((await send(at, 'PUT', `${path}?digest=${wrong}`))?.status).to.equal(400);
      await commit(host(2), path, content);
    });
    // The first one's result stands in the row; only sha256, which that row held before, is had by reading again.
    expect(bytes.reduce((sum, count) => sum + count, 0)).to.be.at.most(2 * content.size);
    await expectEverywhere(content);
  });

  it('stops the request that another node took it from, while that waits for its client', async () => {
    const content = new Content('taken', 24 * MiB);
    const path = await beginAt(host(0), REPOSITORY);
    const waiting = new Exchange(host(0), 'PATCH', path, {
      'content-range': `0-${8 * MiB - 1}`,
      'content-length': 8 * MiB,
    });
    await waiting.write(content.part(0, MiB));
    const epoch = async () =>
      (
        await ask<{ epoch: number }>(
          cluster.database.url,
          'select epoch::float8 from uploads where committed_digest is null',
        )
      )[0]?.epoch ?? 0;
    await until('the first one has taken it', async () => (await epoch()) > 0);
    const answer = await chunkTo(host(1), path, content, 0, 8 * MiB);
    expect(answer?.status).to.equal(202);
    expect((await waiting.answer)?.status).to.equal(409);
    await chunksInTurn([host(2), host(0)], path, content, 8 * MiB, 8 * MiB);
    await commit(host(1), path, content);
    await expectEverywhere(content);
  });

  it('goes on after the node that began it was killed in the middle of a chunk, and is committed without it', async () => {
    const content = new Content('survives', 96 * MiB);
    const path = await beginAt(host(0), REPOSITORY);
    expect((await chunkTo(host(0), path, content, 0, 24 * MiB))?.status).to.equal(202);
    const rest = new Exchange(host(0), 'PATCH', path, { 'transfer-encoding': 'chunked' });
    const parts = nodes[0]?.gateway?.count('Part') ?? 0;
    for (const piece of content.chunks(24 * MiB, 60 * MiB, MiB)) await rest.write(piece);
    await until('parts of it are on their way', () => (nodes[0]?.gateway?.count('Part') ?? 0) > parts + 2);
    await nodes[0]?.server.kill();
    expect(await rest.answer).to.equal(undefined);
    const bytes = await readBy(async () => {
      let told = Number.NaN;
      await until('another node tells how far it is', async () => {
        const answer = await send(host(1), 'GET', path);
        told = Number(answer?.headers['upload-offset']);
        return answer?.status === 204;
      });
      expect(told).to.be.within(24 * MiB, 60 * MiB);
      await chunksInTurn([host(1), host(2)], path, content, 5 * MiB, told);
      await commit(host(2), path, content);
    });
    for (const count of bytes) expect(count).to.be.at.most(content.size);
    await nodes[0]?.server.start();
    await expectEverywhere(content);
  });
});
