import { once } from 'node:events';
import { connect } from 'node:net';
import { expect } from 'chai';
import { pushImage } from '../http/content.js';
import { head, Wire } from '../http/wire.js';
import { startServer, type TestServer } from '../support/server.js';
import { send } from './support/exchange.js';
import { signal, until, untilLogged } from './support/processes.js';

const LAST = /\r\nconnection: close\r\n/i;

describe('a registry that is told to end', function () {
  this.timeout(120_000);
  let server: TestServer;
  afterEach(() => server.dispose());

  async function start(environment: Readonly<Record<string, string>>): Promise<void> {
    server = await startServer({ environment: { REGISTRY_WORKERS: '1', ...environment } });
  }

  async function takesConnections(): Promise<boolean> {
    const [host = '', port] = server.host.split(':');
    const socket = connect({ host, port: Number(port) });
    const taken = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    return taken;
  }

  it('serves on for the delay, while each answer asks its client to leave, and then takes no connections', async () => {
    await start({ REGISTRY_DRAIN_DELAY: '8' });
    const kept = await Wire.open(server.host);
    await kept.write(head('GET', '/v2/')).untilAnswers(1);
    expect(kept.text).not.to.match(LAST);
    const began = performance.now();
    const ended = once(server.process, 'exit');
    signal(server.process.pid ?? 0, 'SIGTERM');
    await until('new connections are asked to leave', async () => {
      const answer = await send(server.host, 'GET', '/v2/', { headers: { connection: 'keep-alive' } });
      expect(answer?.status).to.equal(200);
      return answer?.headers.connection === 'close';
    });
    await kept.write(head('GET', '/v2/')).untilAnswers(2);
    expect(kept.status).to.equal(200);
    expect(kept.text).to.match(LAST);
    await kept.untilClosed();
    expect(performance.now() - began).to.be.below(8_000);
    expect(await takesConnections()).to.equal(true);
    await until('no connections are taken', async () => !(await takesConnections()));
    expect(performance.now() - began).to.be.above(7_900);
    expect((await ended)[0]).to.equal(0);
  });

  it('does not wait for the delay when it is told twice', async () => {
    await start({ REGISTRY_DRAIN_DELAY: '600' });
    const stopped = server.stop();
    await untilLogged(server, 'stopping');
    signal(server.process.pid ?? 0, 'SIGTERM');
    expect(await stopped).to.equal(0);
  });

  it('closes idle connections at once, also those that never asked for anything', async () => {
    await start({ REGISTRY_DRAIN_TIMEOUT: '600' });
    const silent = await Wire.open(server.host);
    const kept = await Wire.open(server.host);
    await kept.write(head('GET', '/v2/')).untilAnswers(1);
    expect(await server.stop()).to.equal(0);
    await Promise.all([silent.untilClosed(), kept.untilClosed()]);
  });

  it('gives a slow client the end of an answer that is complete but not yet sent', async () => {
    await start({ REGISTRY_DRAIN_TIMEOUT: '600', REGISTRY_MANIFEST_MAX_BYTES: String(32 * 1024 * 1024) });
    const manifest = await pushImage(server, 'drained/large', 'v1', { annotations: { large: 'x'.repeat(20_000_000) } });
    const wire = await Wire.open(server.host);
    wire.socket.pause();
    wire.write(head('GET', '/v2/drained/large/manifests/v1'));
    await until('the answer has begun', () => wire.socket.bytesRead > 0);
    const stopped = server.stop();
    await until('no connections are taken', async () => !(await takesConnections()));
    // Idle connections are looked for ten times a second.
    await new Promise((resolve) => setTimeout(resolve, 500));
    wire.socket.resume();
    await wire.untilClosed(20_000);
    expect(wire.received.subarray(-manifest.length).equals(manifest)).to.equal(true);
    expect(await stopped).to.equal(0);
  });
});
