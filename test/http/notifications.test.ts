import { expect } from 'chai';
import { makeKey, revoke } from '../support/keys.js';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import { startServer, type TestServer } from '../support/server.js';
import { ask } from '../faults/support/oracle.js';
import {
  bytesOf,
  close,
  descriptorOf,
  digestOf,
  imageOf,
  LAYER,
  openUpload,
  patch,
  pushBlob,
  pushConfig,
  pushImage,
  putManifest,
} from './content.js';

// PostgreSQL takes a lock of the whole database to commit a transaction that notifies: pushes would go one by one.
describe('notifications', () => {
  let database: TestDatabase;
  let server: TestServer;

  before(async function () {
    this.timeout(120_000);
    database = await createDatabase();
    // Found before PostgreSQL's own by every statement that does not say which it means.
    await ask(
      database.url,
      `create schema spy;
       create table spy.sent (channel text);
       create function spy.pg_notify(channel text, payload text) returns void language sql as $$
         insert into spy.sent values (channel); select pg_catalog.pg_notify(channel, payload) $$;
       alter database ${database.name} set search_path = spy, public, pg_catalog`,
    );
    server = await startServer({ embedded: true, environment: { REGISTRY_DATABASE_URL: database.url } });
  });
  after(async function () {
    this.timeout(120_000);
    await server?.dispose();
    await database?.drop();
  });

  const sent = async () =>
    (await ask<{ channel: string }>(database.url, 'select channel from spy.sent')).map(({ channel }) => channel);

  it('are not sent by any push, whole or in chunks, mounted, tagged or tagged anew', async () => {
    // The first key and whatever the start has to say.
    await ask(database.url, 'delete from spy.sent');
    const bytes = bytesOf('notified', 30_000);
    await pushBlob(server, 'quiet/model', bytes);
    for (const sizes of [[30_000], [10_000, 20_000], [10_000, 10_000, 10_000]]) {
      const content = bytesOf(`notified ${sizes.length}`, 30_000);
      const location = await openUpload(server, 'quiet/model');
      let at = 0;
      for (const size of sizes) {
        await patch(server, location, content.subarray(at, at + size), at);
        at += size;
      }
      expect((await close(server, location, digestOf(content))).status).to.equal(201);
    }
    const whole = bytesOf('notified whole', 30_000);
    const location = await openUpload(server, 'quiet/model');
    const put = await server.request('PUT', `${location}?digest=${digestOf(whole)}`, { body: whole });
    expect(put.status).to.equal(201);
    const mounted = `/v2/quiet/other/blobs/uploads/?mount=${digestOf(bytes)}&from=quiet/model`;
    expect((await server.request('POST', mounted)).status).to.equal(201);
    for (const tag of ['v1', 'v1', 'v1-fp16', 'v2-q4_k_m', 'latest']) {
      const config = await pushConfig(server, 'quiet/model');
      const layer = { ...descriptorOf(bytes, LAYER), annotations: { 'org.opencontainers.image.title': `${tag}.gguf` } };
      const more = { annotations: { at: String(Math.random()) } };
      const pushed = await putManifest(server, 'quiet/model', tag, imageOf(config, [layer], more));
      expect(pushed.status, await pushed.text()).to.equal(201);
    }
    await pushImage(server, 'quiet/model', 'v3');
    expect(await sent()).to.deep.equal([]);
  });

  it('are sent when a key is revoked, and when an upload is cancelled', async () => {
    const key = await makeKey(server, ['**=pull']);
    await ask(database.url, 'delete from spy.sent');
    await revoke(server, key.id);
    expect(await sent()).to.deep.equal(['weighhouse_access']);
    const location = await openUpload(server, 'quiet/model');
    expect((await server.request('DELETE', location)).status).to.equal(204);
    expect(await sent()).to.deep.equal(['weighhouse_access', 'weighhouse_upload_taken']);
  });
});
