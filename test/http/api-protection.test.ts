import { expect } from 'chai';
import { makeKey } from '../support/keys.js';
import type { TestServer } from '../support/server.js';
import { type Ask, asker, pushRelease, releaseOf, type Resource, told } from './api-scene.js';
import { expectError } from './content.js';
import { sharedServer } from './shared-server.js';

describe('what is deployed', () => {
  let server: TestServer;
  let ask: Ask;
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
  });

  const release = async (place: string, tag: string) => {
    await pushRelease(server, place, tag);
    return await releaseOf(ask, place, tag);
  };
  const deploy = (to: Resource, environment: string, status = 'active') =>
    told(ask('POST', '/deployments', { release_id: to.id, environment, status }), 201);

  /** Neither door removes the release, its tag or its manifest, and both say what is in the way. */
  async function expectProtected(one: Resource, deployment: Resource): Promise<void> {
    const refused = await told(ask('DELETE', `/releases/${one.id}`), 409);
    expect(refused.conflicts.map(({ id }: Resource) => id)).to.deep.equal([deployment.id]);
    for (const reference of [one.tag, one.digest]) {
      const answer = await server.request('DELETE', `/v2/${one.image_repository}/manifests/${reference}`);
      await expectError(answer, 403, 'DENIED');
    }
    expect(await told(ask('GET', `/releases/${one.id}`))).to.deep.equal(one);
    expect((await server.request('GET', `/v2/${one.image_repository}/manifests/${one.tag}`)).status).to.equal(200);
  }

  for (const status of ['pending', 'active'])
    it(`can't be removed while it is ${status}, and can be when it is over`, async () => {
      const one = await release(`api-protected/${status}`, 'v1-fp16');
      const deployment = await deploy(one, `protected-${status}`, status);
      await expectProtected(one, deployment);
      await told(ask('PATCH', `/deployments/${deployment.id}`, { status: 'failed' }));
      expect((await ask('DELETE', `/releases/${one.id}`)).status).to.equal(204);
      expect((await server.request('GET', `/v2/${one.image_repository}/manifests/v1-fp16`)).status).to.equal(404);
    });

  it("can't be removed while a rollback leads to it", async () => {
    const place = 'api-protected/target';
    const [one, two, three] = [await release(place, 'v1'), await release(place, 'v2'), await release(place, 'v3')];
    const first = await deploy(one, 'protected-target');
    const second = await deploy(two, 'protected-target');
    await expectProtected(one, first);
    await deploy(three, 'protected-target');
    await expectProtected(two, second);
    expect((await ask('DELETE', `/releases/${one.id}`)).status, 'no rollback leads there any more').to.equal(204);
  });

  it('is not gone back to when it was removed', async () => {
    const place = 'api-protected/removed';
    const [one, two, three] = [await release(place, 'v1'), await release(place, 'v2'), await release(place, 'v3')];
    const first = await deploy(one, 'protected-removed');
    const second = await deploy(two, 'protected-removed');
    const third = await deploy(three, 'protected-removed');
    expect((await server.request('DELETE', `/v2/${place}/manifests/${one.digest}`)).status).to.equal(202);
    expect((await told(ask('GET', `/releases/${one.id}`))).status).to.equal('withdrawn');
    await told(ask('DELETE', `/deployments/${second.id}`), 204);
    const refused = await told(ask('POST', `/deployments/${third.id}/rollback`), 409);
    expect(refused.conflicts[0]).to.include({ type: 'release', id: one.id });
    expect((await ask('PATCH', `/deployments/${first.id}`, { status: 'active' })).status).to.equal(409);
    expect((await told(ask('GET', `/deployments/${third.id}`))).status).to.equal('active');
  });

  it('goes when an admin forces it, with its deployments', async () => {
    const one = await release('api-protected/forced', 'v1');
    const deployment = await deploy(one, 'protected-forced');
    const { text: key } = await makeKey(server, ['api-protected/**=pull,push,delete,deploy']);
    const { text: stranger } = await makeKey(server, ['elsewhere/**=pull']);
    const path = `/releases/${one.id}?force=true`;
    expect((await ask('DELETE', path, undefined, { key })).status).to.equal(403);
    expect((await ask('DELETE', path, undefined, { key: stranger })).status).to.equal(404);
    expect((await ask('DELETE', path)).status).to.equal(204);
    expect((await ask('GET', `/deployments/${deployment.id}`)).status).to.equal(404);
    expect((await server.request('GET', '/v2/api-protected/forced/manifests/v1')).status).to.equal(404);
  });

  it('keeps another spelling of its tag from mattering', async () => {
    const place = 'api-protected/spelled';
    const one = await release(place, 'v1-fp16');
    const deployment = await deploy(one, 'protected-spelled');
    const digest = await pushRelease(server, place, 'V1_FP16', 'other');
    expect((await server.request('DELETE', `/v2/${place}/manifests/v1-fp16`)).status, 'a tag of two').to.equal(202);
    expect((await server.request('DELETE', `/v2/${place}/manifests/V1_FP16`)).status, 'the last tag').to.equal(403);
    expect((await server.request('DELETE', `/v2/${place}/manifests/${one.digest}`)).status, 'what runs').to.equal(403);
    expect((await told(ask('GET', `/releases/${one.id}`))).digest).to.equal(digest);
    await told(ask('DELETE', `/deployments/${deployment.id}`), 204);
    expect((await server.request('DELETE', `/v2/${place}/manifests/${one.digest}`)).status).to.equal(202);
  });
});
