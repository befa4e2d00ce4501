// A node dies behind nginx, on the configuration of deploy/nginx: what is sent again to the other node, and what is not.
import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { childrenOf, signal, until } from '../faults/support/processes.js';
import { bytesOf, digestOf, imageOf, IMAGE, pushConfig } from '../http/content.js';
import { type Answer, exchange, head, Wire } from '../http/wire.js';
import type { TestServer } from '../support/server.js';
import { startTwoNodes, type TwoNodes } from './support/two-nodes.js';

const REPOSITORY = 'team/failover';
const UPLOADS = `/v2/${REPOSITORY}/blobs/uploads/`;
const TYPE = { 'content-type': IMAGE };

describe('nginx when a node dies', () => {
  let scene: TwoNodes;
  let host = '';
  let manifest: Buffer;

  before(async function () {
    scene = await startTwoNodes(this);
    host = scene.nginx.host;
    manifest = imageOf(await pushConfig(scene.nodes[0], REPOSITORY), []);
    const headers = TYPE;
    const put = await exchange(host, 'PUT', `/v2/${REPOSITORY}/manifests/there`, { headers, body: manifest });
    expect(put.status, put.body.toString()).to.equal(201);
  });

  after(() => scene?.dispose());

  async function revive(node: TestServer): Promise<void> {
    await node.start();
    // nginx leaves it alone for a while.
    await until('nginx sends requests to both nodes', async () => {
      const ids = await Promise.all(scene.nodes.map((_, index) => seenBy(index)));
      return ids.every(Boolean);
    });
  }

  /** Whether a request that is sent now comes to this node, when some are sent. */
  async function seenBy(index: number): Promise<boolean> {
    const id = `seen-${index}-${performance.now()}`;
    for (let count = 0; count < 4; count += 1) await exchange(host, 'GET', '/v2/', { headers: { 'x-request-id': id } });
    return (await scene.nodes[index]?.log())?.includes(id) ?? false;
  }

  /** Whether bytes of a request wait at the port of a node, which does not read them. */
  async function owes(node: TestServer): Promise<boolean> {
    const port = Number(node.host.split(':')[1]).toString(16).toUpperCase();
    const lines = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/));
    // Local address, state (established), queues.
    return lines.some(
      ([, local = '', , state, queues = '']) =>
        local.endsWith(`:${port}`) && state === '01' && Number.parseInt(queues.split(':')[1] ?? '', 16) > 0,
    );
  }

  /** Kills a node, and waits until nginx has noticed: a POST on a connection that it kept open would not be sent again. */
  async function end(node: TestServer): Promise<void> {
    await node.kill();
    const port = `:${Number(node.host.split(':')[1]).toString(16).toUpperCase().padStart(4, '0')}`;
    await until('nginx has closed its connections to the node', async () => {
      const lines = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/));
      // Established, or closed by the other side alone.
      return !lines.some(([, , remote = '', state = '']) => remote.endsWith(port) && ['01', '08'].includes(state));
    });
  }

  /**
   * Sends requests until one is with the second node, which takes it and does not answer; then that node is killed.
   * @returns the answer to that request.
   */
  async function dieOver(send: (count: number) => Promise<Answer>): Promise<{ answer: Answer; count: number }> {
    const [, node] = scene.nodes;
    const pids = [node.process.pid ?? 0, ...(await childrenOf(node.process.pid ?? 0))];
    for (const pid of pids) signal(pid, 'SIGSTOP');
    try {
      for (let count = 0; count < 20; count += 1) {
        const waiting = send(count);
        let isAnswered = false;
        waiting.finally(() => (isAnswered = true)).catch(() => undefined);
        await until('the request is answered or with the second node', async () => isAnswered || (await owes(node)));
        if (isAnswered) continue;
        await node.kill();
        return { answer: await waiting, count };
      }
      throw new Error('no request came to the second node');
    } finally {
      for (const pid of pids) signal(pid, 'SIGCONT');
    }
  }

  it('never sends a PUT or DELETE again that a node may have done', async () => {
    const tagOf = (count: number) => `/v2/${REPOSITORY}/manifests/put-${count}`;
    const put = await dieOver((count) => exchange(host, 'PUT', tagOf(count), { headers: TYPE, body: manifest }));
    expect(put.answer.status).to.equal(503);
    expect(put.answer.headers['retry-after']).to.equal('1');
    expect(JSON.parse(put.answer.body.toString()).errors[0].code).to.equal('UNAVAILABLE');
    expect((await exchange(host, 'HEAD', tagOf(put.count))).status).to.equal(404);
    await revive(scene.nodes[1]);
    for (let count = 0; count < 20; count += 1) {
      const made = await exchange(scene.nodes[0].host, 'PUT', tagOf(count), { headers: TYPE, body: manifest });
      expect(made.status).to.equal(201);
    }
    const deleted = await dieOver((count) => exchange(host, 'DELETE', tagOf(count)));
    expect(deleted.answer.status).to.equal(503);
    expect((await exchange(host, 'HEAD', tagOf(deleted.count))).status).to.equal(200);
    await revive(scene.nodes[1]);
  });

  it('never sends a POST again that a node may have done', async () => {
    const bytes = bytesOf('of a node that dies', 1000);
    const digest = digestOf(bytes);
    const path = (count: number) => `/v2/${REPOSITORY}/other-${count}/blobs/uploads/?digest=${digest}`;
    const { answer, count } = await dieOver((at) => exchange(host, 'POST', path(at), { body: bytes }));
    expect(answer.status).to.equal(503);
    expect((await exchange(host, 'HEAD', `/v2/${REPOSITORY}/other-${count}/blobs/${digest}`)).status).to.equal(404);
    await revive(scene.nodes[1]);
  });

  it('asks the other node when one dies over a read', async () => {
    const { answer } = await dieOver(() => exchange(host, 'GET', `/v2/${REPOSITORY}/manifests/there`));
    expect(answer.status).to.equal(200);
    expect(answer.body.equals(manifest)).to.equal(true);
    await revive(scene.nodes[1]);
  });

  it('goes on while a node is away, and with it once it is back', async () => {
    const bytes = bytesOf('while a node is away', 300_000);
    const [first, second] = scene.nodes;
    await end(second);
    let refused = 0;
    for (let round = 0; round < 10; round += 1) {
      // What was not sent to a node goes to the other one, bodies too.
      const opened = await exchange(host, 'POST', UPLOADS, { body: Buffer.alloc(0) });
      expect(opened.status).to.equal(202);
      const location = String(opened.headers.location);
      const patched = await exchange(host, 'PATCH', location, { body: bytes });
      expect(patched.status, patched.body.toString()).to.equal(202);
      const put = await exchange(host, 'PUT', `${location}?digest=${digestOf(bytes)}`, { body: Buffer.alloc(0) });
      if (put.status === 201) continue;
      refused += 1;
      expect([put.status, put.headers['retry-after']]).to.deep.equal([503, '1']);
    }
    // Two failures, and nginx leaves it alone; a machine that is slow may come to a second time.
    expect(refused).to.be.lessThan(10);
    await revive(second);
    await first.kill();
    expect((await exchange(host, 'GET', '/v2/')).status).to.equal(200);
    await revive(first);
  });

  it('has kept of an upload what arrived when its node died, for the other one', async () => {
    const bytes = bytesOf('an upload whose node dies', 40 * 1024 * 1024);
    const opened = await exchange(host, 'POST', UPLOADS, { body: Buffer.alloc(0) });
    const location = String(opened.headers.location);
    const wire = await Wire.open(host);
    wire.write(head('PATCH', location, 'Content-Type: application/octet-stream', `Content-Length: ${bytes.length}`));
    wire.write(bytes.subarray(0, 36 * 1024 * 1024));
    const offset = async () => Number((await exchange(host, 'GET', location)).headers['upload-offset']);
    // The one that has it is the one that loses it.
    let known = 0;
    await until('some of it is durable', async () => {
      known = await offset();
      return known > 0;
    });
    await scene.nodes[1].kill();
    await until('the upload can be gone on with', async () => {
      const at = await offset();
      if (at < known) throw new Error(`${at} of ${known} durable bytes are there`);
      const rest = { 'content-range': `${at}-${bytes.length - 1}`, 'content-type': 'application/octet-stream' };
      wire.end();
      return (await exchange(host, 'PATCH', location, { headers: rest, body: bytes.subarray(at) })).status === 202;
    });
    await until('it is committed', async () => {
      const put = await exchange(host, 'PUT', `${location}?digest=${digestOf(bytes)}`, { body: Buffer.alloc(0) });
      return put.status === 201;
    });
    expect((await exchange(host, 'GET', `/v2/${REPOSITORY}/blobs/${digestOf(bytes)}`)).body.equals(bytes)).to.equal(
      true,
    );
    await revive(scene.nodes[1]);
  });

  it('says so, in the registry’s words, when no node answers', async () => {
    for (const node of scene.nodes) await node.kill();
    for (const [method, path] of [
      ['GET', '/v2/'],
      ['POST', UPLOADS],
      ['PUT', `/v2/${REPOSITORY}/manifests/never`],
    ] as const) {
      const answer = await exchange(host, method, path, { headers: TYPE, body: Buffer.alloc(0) });
      expect(answer.status, method).to.equal(503);
      expect(answer.headers['content-type']).to.equal('application/json');
      expect(answer.headers['retry-after']).to.equal('1');
    }
    for (const node of scene.nodes) await node.start();
  });
});
