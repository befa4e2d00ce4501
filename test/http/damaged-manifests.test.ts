import { expect } from 'chai';
import { runCommand } from '../faults/support/command.js';
import { onDatabase } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import { type Ask, asker, pushFiles, releaseOf, told } from './api-scene.js';
import { digestOf, expectError, putManifest } from './content.js';

const NAME = 'damaged/model';

describe('a manifest whose bytes in the database are damaged', function () {
  this.timeout(60_000);
  let server: TestServer;
  let ask: Ask;
  let manifest: Buffer;

  before(async () => {
    server = await startServer();
    ask = asker(server);
    manifest = await pushFiles(server, NAME, 'v1', { 'model.safetensors': 'weights' });
    await onDatabase(server, (database) =>
      database.query(
        'update manifests set payload = set_byte(payload, 20, get_byte(payload, 20) # 1) where digest = $1',
        [digestOf(manifest)],
      ),
    );
  });
  after(() => server.dispose());

  const get = (reference: string) => server.request('GET', `/v2/${NAME}/manifests/${reference}`);

  it('is answered with an error and never with its bytes, until it is pushed again', async () => {
    const { id } = await releaseOf(ask, NAME, 'v1');
    for (const reference of ['v1', digestOf(manifest)]) {
      const { message } = (await expectError(await get(reference), 500, 'UNKNOWN')) as { message: string };
      expect(message).to.match(/damaged; push it again/);
    }
    await told(ask('GET', `/releases/${id}/manifest`), 500);
    expect((await runCommand('fsck', server.environment, ['--deep'])).code).to.equal(1);

    const answer = await putManifest(server, NAME, digestOf(manifest), manifest);
    expect(answer.status, await answer.text()).to.equal(201);
    for (const reference of ['v1', digestOf(manifest)]) {
      const whole = await get(reference);
      expect([whole.status, Buffer.from(await whole.arrayBuffer()).equals(manifest)]).to.deep.equal([200, true]);
    }
    expect((await runCommand('fsck', server.environment, ['--deep'])).code).to.equal(0);
  });
});
