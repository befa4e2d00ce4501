import { expect } from 'chai';
import { type IncomingMessage, request } from 'node:http';
import { once } from 'node:events';
import { setTimeout as pass } from 'node:timers/promises';
import { LEASE_MS, REVOKED_MS } from '../../src/auth/lease.js';
import { until } from '../faults/support/processes.js';
import { bearer, makeKey, onDatabase, revoke, type TestKey } from '../support/keys.js';
import { createDatabase } from '../support/postgres.js';
import { startServer, type TestServer } from '../support/server.js';
import { bytesOf, digestOf, pushBlob } from './content.js';
import { untilTaken } from './under-way.js';
import { exchange } from './wire.js';

const REPOSITORY = 'revoked/model';
const MiB = 1024 * 1024;
const WORKERS = 3;

/** Connections of which each goes to some worker; enough that every worker has several. */
const CONNECTIONS = 40;

function closeOf(incoming: IncomingMessage): Promise<void> {
  return new Promise((resolve) => incoming.once('close', () => resolve()));
}

describe('a key that ends', function () {
  this.timeout(120_000);
  let server: TestServer;
  const big = bytesOf('a large blob', 64 * MiB);
  let digest: string;

  before(async () => {
    server = await startServer({ environment: { REGISTRY_WORKERS: String(WORKERS) } });
    digest = await pushBlob(server, REPOSITORY, big);
  });
  after(() => server.dispose());

  const statuses = async (authorization: string) => {
    const answers = await Promise.all(
      Array.from({ length: CONNECTIONS }, () => exchange(server.host, 'GET', '/v2/', { headers: { authorization } })),
    );
    return new Set(answers.map((answer) => answer.status));
  };

  /** A download that is not read. */
  async function slowDownload(key: TestKey): Promise<IncomingMessage> {
    const [hostname, port] = server.host.split(':');
    const path = `/v2/${REPOSITORY}/blobs/${digest}`;
    const headers = { authorization: key.authorization, 'x-request-id': `download-${key.id}` };
    const outgoing = request({ hostname, port, path, headers, agent: false });
    outgoing.end();
    const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
    expect(incoming.statusCode).to.equal(200);
    incoming.on('error', () => undefined);
    return incoming;
  }

  /** When the download of a key ended, by the registry's word. */
  async function endOf(key: TestKey): Promise<number> {
    let line: string | undefined;
    await until('the download is logged', async () => {
      // The last one may not be whole yet.
      const lines = (await server.log()).split('\n').slice(0, -1);
      line = lines.find((text) => text.includes(`"download-${key.id}"`) && text.includes('"msg":"request"'));
      return line !== undefined;
    });
    return Date.parse((JSON.parse(line ?? '{}') as { time: string }).time);
  }

  /** An upload that has sent some and holds its connection open. */
  async function slowUpload(key: TestKey, method: 'POST' | 'PATCH') {
    const [hostname, port] = server.host.split(':');
    const opened = await exchange(server.host, 'POST', `/v2/${REPOSITORY}/blobs/uploads/`, {
      headers: { authorization: key.authorization },
    });
    const location = opened.headers.location ?? '';
    const path = method === 'PATCH' ? location : `/v2/${REPOSITORY}/blobs/uploads/?digest=${digestOf('never whole')}`;
    const headers = { authorization: key.authorization, 'content-length': String(100 * MiB) };
    const outgoing = request({ hostname, port, method, path, headers, agent: false });
    const ended = new Promise<string>((resolve) => {
      outgoing.on('response', (answer) => resolve(String(answer.statusCode)));
      outgoing.on('error', () => resolve('broken off'));
    });
    await untilTaken(server, method === 'PATCH' ? location : key.id, () => outgoing.write(big.subarray(0, MiB)));
    return { location, ended, destroy: () => outgoing.destroy() };
  }

  it('stops on every worker within a second of its revocation, also its tokens', async () => {
    const key = await makeKey(server, ['**=pull,push']);
    const token = await bearer(server, key.authorization, REPOSITORY);
    expect(await statuses(key.authorization)).to.deep.equal(new Set([200]));
    expect(await statuses(token)).to.deep.equal(new Set([200]));
    await revoke(server, key.id);
    await pass(REVOKED_MS);
    expect(await statuses(key.authorization)).to.deep.equal(new Set([401]));
    expect(await statuses(token)).to.deep.equal(new Set([401]));
  });

  it('stops within a second also when no notification arrives', async () => {
    const key = await makeKey(server, ['**=pull,push']);
    const token = await bearer(server, key.authorization, REPOSITORY);
    const download = await slowDownload(key);
    expect(await statuses(key.authorization)).to.deep.equal(new Set([200]));
    const closed = closeOf(download);
    download.resume();
    download.pause();
    // As a change that another node makes while this one has lost its listening connection.
    await onDatabase(server, (database) =>
      database.query('update api_keys set is_active = false where key_prefix = $1', [key.id]),
    );
    await pass(REVOKED_MS);
    expect(await statuses(key.authorization)).to.deep.equal(new Set([401]));
    expect(await statuses(token)).to.deep.equal(new Set([401]));
    download.resume();
    await closed;
    expect(download.complete).to.equal(false);
  });

  it('stops when its time is over', async () => {
    const end = Date.now() + 4_000;
    const key = await makeKey(server, ['**=pull,push'], { expiresAt: new Date(end) });
    expect(await statuses(key.authorization)).to.deep.equal(new Set([200]));
    await pass(end + LEASE_MS + 100 - Date.now());
    expect(await statuses(key.authorization)).to.deep.equal(new Set([401]));
  });

  it('has its running uploads and downloads broken off and its sessions ended, and nobody else’s', async () => {
    const key = await makeKey(server, ['**=pull,push']);
    const other = await makeKey(server, ['**=pull,push']);
    const uploads = [await slowUpload(key, 'PATCH'), await slowUpload(key, 'POST')];
    const others = await slowUpload(other, 'PATCH');
    const download = await slowDownload(key);
    let ended = '';
    void others.ended.then((how) => {
      ended = how;
    });
    await revoke(server, key.id);
    const revoked = Date.now();
    for (const upload of uploads) expect(await upload.ended).to.be.oneOf(['broken off', '401', '409']);
    expect(Date.now() - revoked).to.be.below(REVOKED_MS);
    // A download that is not read ends unseen; it may not be read before, or it may come to its end.
    expect((await endOf(key)) - revoked).to.be.below(REVOKED_MS);
    const closed = closeOf(download);
    download.resume();
    await closed;
    expect(download.complete).to.equal(false);
    for (const { location } of uploads) expect((await server.request('GET', location)).status).to.equal(404);
    expect(ended).to.equal('');
    others.destroy();
    const status = await server.request('GET', others.location);
    expect(status.status).to.equal(204);
  });

  it('has also the session ended that a request opens just after, by the job', async () => {
    const racing = await startServer({ environment: { REGISTRY_JOB_INTERVAL: '1' } });
    try {
      // Without the observer that ends sessions, as if this one had come a moment later.
      for (const end of [
        'update api_keys set is_active = false where key_prefix = $1',
        'delete from api_keys where key_prefix = $1',
      ]) {
        const key = await makeKey(racing, ['**=pull,push']);
        const opened = await racing.request('POST', `/v2/${REPOSITORY}/blobs/uploads/`, {
          headers: { authorization: key.authorization },
        });
        const location = opened.headers.get('location') ?? '';
        await onDatabase(racing, (database) => database.query(end, [key.id]));
        for (const deadline = performance.now() + 20_000; ; await pass(50)) {
          if ((await racing.request('GET', location)).status === 404) break;
          expect(performance.now(), 'the session lives on').to.be.below(deadline);
        }
      }
    } finally {
      await racing.dispose();
    }
  });

  it('stops on another node of the same database', async () => {
    const shared = await createDatabase();
    const environment = { REGISTRY_DATABASE_URL: shared.url };
    const one = await startServer({ environment });
    const root = { REGISTRY_DATA_DIR: `${one.folder}/second`, REGISTRY_FILESYSTEM_ROOT: `${one.folder}/data/blobs` };
    const two = await startServer({ environment: { ...environment, ...root } });
    try {
      const key = await makeKey(one, ['**=pull']);
      const authorization = await bearer(one, key.authorization, REPOSITORY);
      // A token of one node counts on the other.
      for (const node of [one, two])
        expect((await node.request('GET', '/v2/', { headers: { authorization } })).status).to.equal(200);
      await revoke(one, key.id);
      await pass(REVOKED_MS);
      for (const node of [one, two])
        expect((await node.request('GET', '/v2/', { headers: { authorization } })).status).to.equal(401);
    } finally {
      await two.dispose();
      await one.dispose();
      await shared.drop();
    }
  });

  describe('or a token or grant that does, in the middle of an upload', () => {
    const withHeaders = (authorization: string) => ({ headers: { authorization } });
    let brief: TestServer;
    before(async () => {
      brief = await startServer({ environment: { REGISTRY_TOKEN_LIFETIME: '3' } });
    });
    after(() => brief.dispose());

    it('does not break it: who began it may finish it, and nobody else with such a token', async () => {
      const key = await makeKey(brief, ['**=pull,push']);
      const other = await makeKey(brief, ['**=pull,push']);
      const stranger = await bearer(brief, other.authorization, REPOSITORY);
      const elsewhere = await bearer(brief, key.authorization, 'another/repository');
      const authorization = await bearer(brief, key.authorization, REPOSITORY);
      const opened = await brief.request('POST', `/v2/${REPOSITORY}/blobs/uploads/`, withHeaders(authorization));
      expect(opened.status).to.equal(202);
      const path = opened.headers.get('location') ?? '';
      const body = bytesOf('finished with an expired token', 1000);
      await pass(3_500);
      expect((await brief.request('GET', '/v2/', withHeaders(authorization))).status).to.equal(401);
      for (const wrong of [stranger, elsewhere])
        expect((await brief.request('PATCH', path, { ...withHeaders(wrong), body })).status).to.equal(401);
      expect((await brief.request('PATCH', path, { ...withHeaders(authorization), body })).status).to.equal(202);
      expect((await brief.request('GET', path, withHeaders(authorization))).status).to.equal(204);
      const put = await brief.request('PUT', `${path}?digest=${digestOf(body)}`, withHeaders(authorization));
      expect(put.status).to.equal(201);
      // A session that began after the token had expired is not its business.
      const later = await brief.request('POST', `/v2/${REPOSITORY}/blobs/uploads/`, withHeaders(key.authorization));
      const refused = await brief.request('PATCH', later.headers.get('location') ?? '', {
        ...withHeaders(authorization),
        body,
      });
      expect(refused.status).to.equal(401);
    });

    it('does not break it when the right to push is taken away', async () => {
      const key = await makeKey(server, ['**=pull,push']);
      const opened = await server.request('POST', `/v2/${REPOSITORY}/blobs/uploads/`, withHeaders(key.authorization));
      const path = opened.headers.get('location') ?? '';
      await onDatabase(server, (database) =>
        database.query(
          `update api_keys set grants = '[{"repository":"**","actions":["pull"]}]' where key_prefix = $1`,
          [key.id],
        ),
      );
      await pass(LEASE_MS + 100);
      const another = await server.request('POST', `/v2/${REPOSITORY}/blobs/uploads/`, withHeaders(key.authorization));
      expect(another.status).to.equal(403);
      const body = bytesOf('finished without the right', 1000);
      const put = await server.request('PUT', `${path}?digest=${digestOf(body)}`, {
        ...withHeaders(key.authorization),
        body,
      });
      expect(put.status).to.equal(201);
    });
  });
});
