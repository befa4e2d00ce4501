import { expect } from 'chai';
import { randomUUID } from 'node:crypto';
import { makeKey } from '../support/keys.js';
import type { TestServer } from '../support/server.js';
import { allPages, type Ask, asker, faultsOf, pushRelease, releaseOf, type Resource, told } from './api-scene.js';
import { sharedServer } from './shared-server.js';

const STATUSES = ['pending', 'active', 'superseded', 'failed', 'retired'] as const;
/** What PATCH may make of each. */
const STEPS: Readonly<Record<string, readonly string[]>> = {
  pending: ['active', 'failed', 'retired'],
  active: ['failed', 'retired'],
  superseded: ['active', 'retired'],
  failed: ['pending', 'active', 'retired'],
  retired: [],
};

describe('deployments over HTTP', () => {
  let server: TestServer;
  let ask: Ask;
  const place = 'api-deployments/one';
  const releases: Resource[] = [];
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
    for (const tag of ['v1-fp16', 'v2-fp16', 'v3-fp16']) {
      await pushRelease(server, place, tag);
      releases.push(await releaseOf(ask, place, tag));
    }
  });

  const deploy = (release: Resource | undefined, environment: string, more: Resource = {}) =>
    told(ask('POST', '/deployments', { release_id: release?.id, environment, ...more }), 201);
  const get = (id: string) => told(ask('GET', `/deployments/${id}`));
  const patch = (id: string, body: Resource) => ask('PATCH', `/deployments/${id}`, body);
  const statusOf = async ({ id }: Resource) => (await get(id)).status as string;
  const current = async (environment: string) =>
    ((await told(ask('GET', `/environments/${environment}/current`))).items as Resource[]).map(({ id }) => id);

  it('are of a release, and pin the digest that it has then', async () => {
    const pinned = await pushRelease(server, place, 'v4-int8', 'first');
    const release = await releaseOf(ask, place, 'v4-int8');
    const created = await ask('POST', '/deployments', {
      release_id: release.id,
      environment: 'deploy-pins',
      endpoint: 'https://x.example/v1',
      replicas: 3,
      metadata: { cluster: 'a' },
    });
    const deployment = await told(Promise.resolve(created), 201);
    expect(created.headers.get('location')).to.equal(`/api/v1/deployments/${deployment.id}`);
    expect(deployment).to.deep.include({
      release_id: release.id,
      model_id: release.model_id,
      model_name: place,
      version: 'v4',
      quantization: 'int8',
      tag: 'v4-int8',
      digest: pinned,
      environment: 'deploy-pins',
      status: 'active',
      endpoint: 'https://x.example/v1',
      replicas: 3,
      metadata: { cluster: 'a' },
    });
    expect(Date.parse(deployment.deployed_at)).to.be.closeTo(Date.parse(deployment.created_at), 5000);
    await pushRelease(server, place, 'v4-int8', 'second');
    expect(await get(deployment.id)).to.deep.equal(deployment);
    const listed = await told(ask('GET', `/releases/${release.id}/deployments`));
    expect(listed).to.deep.equal({ items: [deployment], next: null });
    const protectedStill = await server.request('DELETE', `/v2/${place}/manifests/${pinned}`);
    expect(protectedStill.status, 'what runs stays, although no tag means it').to.equal(403);
  });

  it('name every wrong field at once', async () => {
    const wrong = {
      release_id: 'x',
      environment: 'a b',
      status: 'failed',
      endpoint: '',
      replicas: -1,
      metadata: 1,
      id: 'x',
    };
    expect(await faultsOf(ask('POST', '/deployments', wrong))).to.deep.equal(
      Object.keys(wrong)
        .map((name) => `body.${name}`)
        .sort(),
    );
    expect(await faultsOf(ask('POST', '/deployments', {}))).to.deep.equal(['body.environment', 'body.release_id']);
    const unknown = { release_id: randomUUID(), environment: 'x' };
    expect(await faultsOf(ask('POST', '/deployments', unknown))).to.deep.equal(['body.release_id']);
    const longest = { environment: 'e'.repeat(64), endpoint: 'x'.repeat(2048), replicas: 2_147_483_647 };
    const { id } = await deploy(releases[0], longest.environment, longest);
    const beyond = { endpoint: 'x'.repeat(2049), replicas: 2_147_483_648, digest: releases[1]?.digest };
    expect(await faultsOf(patch(id, beyond))).to.deep.equal(['body.endpoint', 'body.replicas']);
    expect(await faultsOf(patch(id, { environment: 'other', digest: releases[1]?.digest }))).to.deep.equal([
      'body.digest',
      'body.environment',
    ]);
    expect(await faultsOf(ask('POST', '/deployments', { ...unknown, environment: 'e'.repeat(65) }))).to.deep.equal([
      'body.environment',
    ]);
  });

  it('are refused of drafts and of what is withdrawn', async () => {
    const draft = await told(ask('POST', '/releases', { model_id: releases[0]?.model_id, version: 'v9' }), 201);
    await pushRelease(server, place, 'v5');
    const withdrawn = await releaseOf(ask, place, 'v5');
    await told(ask('PATCH', `/releases/${withdrawn.id}`, { status: 'withdrawn' }));
    for (const { id } of [draft, withdrawn]) {
      const refused = await told(ask('POST', '/deployments', { release_id: id, environment: 'deploy-x' }), 409);
      expect(refused.conflicts[0]).to.include({ type: 'release', id });
    }
  });

  it('are superseded by the next, of the same model and environment alone', async () => {
    const [first, elsewhere] = [await deploy(releases[0], 'deploy-next'), await deploy(releases[0], 'deploy-next-2')];
    await pushRelease(server, 'api-deployments/two', 'v1');
    const other = await deploy(await releaseOf(ask, 'api-deployments/two', 'v1'), 'deploy-next');
    const waiting = await deploy(releases[2], 'deploy-next', { status: 'pending' });
    expect(waiting.deployed_at).to.equal(null);
    expect(await statusOf(first)).to.equal('active');
    const second = await deploy(releases[1], 'deploy-next');
    expect(await Promise.all([first, second, waiting, elsewhere, other].map(statusOf))).to.deep.equal([
      'superseded',
      'active',
      'pending',
      'active',
      'active',
    ]);
    await told(patch(waiting.id, { status: 'active' }));
    expect(await Promise.all([first, second, waiting].map(statusOf))).to.deep.equal([
      'superseded',
      'superseded',
      'active',
    ]);
    expect((await current('deploy-next')).sort()).to.deep.equal([waiting.id, other.id].sort());
  });

  it('are active one at a time, although ten came at once', async () => {
    const made = await Promise.all([...Array(10)].map((_, at) => deploy(releases[at % 3], 'deploy-race')));
    const listed = (await told(ask('GET', '/deployments?environment=deploy-race'))).items as Resource[];
    expect(listed.map(({ id }) => id).sort()).to.deep.equal(made.map(({ id }) => id).sort());
    expect(listed.filter(({ status }) => status === 'active')).to.have.lengthOf(1);
    expect(listed.filter(({ status }) => status === 'superseded')).to.have.lengthOf(9);
    const rolls = await Promise.all(
      [...Array(10)].map((_, at) => ask('POST', `/deployments/${made[at]?.id}/rollback`)),
    );
    expect(rolls.map(({ status }) => status)).to.deep.equal([...Array(10)].map(() => 200));
    expect(await current('deploy-race')).to.have.lengthOf(1);
  });

  describe('go from one state to another', () => {
    /** One in this state, alone in its environment. */
    async function inState(status: string, environment: string): Promise<Resource> {
      const made = await deploy(releases[0], environment, { status: status === 'pending' ? 'pending' : 'active' });
      if (status === 'superseded')
        await told(ask('DELETE', `/deployments/${(await deploy(releases[1], environment)).id}`), 204);
      else if (status !== made.status) await told(patch(made.id, { status }));
      expect(await statusOf(made)).to.equal(status);
      return made;
    }

    for (const from of STATUSES)
      it(`that is ${from}: ${STEPS[from]?.join(', ') || 'none'}`, async () => {
        for (const to of STATUSES.filter((status) => status !== from)) {
          const { id } = await inState(from, `steps-${from}-${to}`);
          const answer = await patch(id, { status: to });
          if (STEPS[from]?.includes(to)) expect((await told(Promise.resolve(answer))).status).to.equal(to);
          else {
            expect((await told(Promise.resolve(answer), 409)).conflicts[0]).to.deep.equal({
              type: 'deployment',
              id,
              status: from,
            });
            expect((await get(id)).status).to.equal(from);
          }
        }
        const { id } = await inState(from, `steps-${from}-same`);
        expect((await told(patch(id, { status: from, replicas: 7 }))).replicas, 'the state that it has').to.equal(7);
      });
  });

  it('keep what became of them', async () => {
    const first = await deploy(releases[0], 'deploy-history', { status: 'pending' });
    await told(patch(first.id, { status: 'failed' }));
    await told(patch(first.id, { replicas: 2 }));
    await told(patch(first.id, { status: 'active' }));
    await deploy(releases[1], 'deploy-history');
    const events = await allPages(ask, `/deployments/${first.id}/history`);
    expect(events.map(({ previous, status }) => `${previous} ${status}`)).to.deep.equal([
      'active superseded',
      'failed active',
      'pending failed',
      'null pending',
    ]);
    expect(events[0]).to.have.all.keys('previous', 'status', 'actor', 'at');
  });

  it('go back to what ran before, and forth again', async () => {
    const [one, two, three] = [
      await deploy(releases[0], 'deploy-back'),
      await deploy(releases[1], 'deploy-back'),
      await deploy(releases[2], 'deploy-back'),
    ];
    const back = await told(ask('POST', `/deployments/${three.id}/rollback`));
    expect(back).to.include({ id: two.id, status: 'active' });
    expect(Date.parse(back.deployed_at)).to.be.greaterThan(Date.parse(two.deployed_at));
    expect(await Promise.all([one, two, three].map(statusOf))).to.deep.equal(['superseded', 'active', 'superseded']);
    const forth = await told(ask('POST', `/deployments/${one.id}/rollback`));
    expect(forth.id).to.equal(three.id);
    expect(await current('deploy-back')).to.deep.equal([three.id]);
    const once = { headers: { 'idempotency-key': 'rollback-1' } };
    const answers = [];
    for (let time = 0; time < 2; time++)
      answers.push(await told(ask('POST', `/deployments/${one.id}/rollback`, undefined, once)));
    expect(answers.map(({ id }) => id)).to.deep.equal([two.id, two.id]);
    expect(await current('deploy-back')).to.deep.equal([two.id]);
  });

  it('have nothing to go back to when nothing ran before', async () => {
    const { id } = await deploy(releases[0], 'deploy-first');
    expect((await ask('POST', `/deployments/${id}/rollback`)).status).to.equal(409);
    expect(await current('deploy-first')).to.deep.equal([id]);
    expect((await ask('POST', `/deployments/${randomUUID()}/rollback`)).status).to.equal(404);
  });

  it('are retired once and for all, and stay to be seen', async () => {
    const { id } = await deploy(releases[0], 'deploy-retired');
    for (let time = 0; time < 2; time++) expect((await ask('DELETE', `/deployments/${id}`)).status).to.equal(204);
    expect(await current('deploy-retired')).to.deep.equal([]);
    expect((await get(id)).status).to.equal('retired');
    const { items } = await told(ask('GET', `/deployments/${id}/history`));
    expect(items).to.have.lengthOf(2);
    expect((await ask('DELETE', `/deployments/${randomUUID()}`)).status).to.equal(404);
  });

  it('are changed by who saw them last', async () => {
    const { id } = await deploy(releases[0], 'deploy-etag');
    const etag = (await ask('GET', `/deployments/${id}`)).headers.get('etag') ?? '';
    const headers = { 'if-match': etag };
    expect((await ask('GET', `/deployments/${id}`, undefined, { headers: { 'if-none-match': etag } })).status).to.equal(
      304,
    );
    const body = { endpoint: null, metadata: { a: 1 } };
    expect(await told(ask('PATCH', `/deployments/${id}`, body, { headers }))).to.deep.include(body);
    expect((await ask('PATCH', `/deployments/${id}`, body, { headers })).status).to.equal(412);
    expect((await ask('DELETE', `/deployments/${id}`, undefined, { headers })).status).to.equal(412);
    expect((await ask('POST', `/deployments/${id}/rollback`, undefined, { headers })).status).to.equal(412);
    const whole = await get(id);
    expect((await patch(id, whole)).status, 'what was read is taken back').to.equal(200);
  });

  it('are made once for each Idempotency-Key', async () => {
    const body = { release_id: releases[0]?.id, environment: 'deploy-once' };
    const once = { headers: { 'idempotency-key': 'deploy-1' } };
    const made = await Promise.all([...Array(4)].map(() => told(ask('POST', '/deployments', body, once), 201)));
    expect(new Set(made.map(({ id }) => id)).size).to.equal(1);
    expect((await told(ask('GET', '/deployments?environment=deploy-once&total=true'))).total).to.equal(1);
  });

  it('are listed with every filter and order', async () => {
    const model = await told(
      ask('PATCH', '/models/api-deployments%2Ftwo', {
        company: 'Deployers',
        base_model: 'deploy base',
        parameter_count: '7B',
        tags: ['deployed', 'chat'],
      }),
    );
    const release = await releaseOf(ask, 'api-deployments/two', 'v1');
    for (const environment of ['deploy-list-a', 'deploy-list-b'])
      await deploy(release, environment, { endpoint: `https://${environment}.example/100%` });
    const q = 'q=deploy-list';
    for (const [query, count] of [
      [q, 2],
      [`${q}&model=api-deployments%2Ftwo`, 2],
      [`${q}&model=${model.id}`, 2],
      [`${q}&release_id=${release.id}`, 2],
      [`${q}&release_id=${releases[0]?.id}`, 0],
      ['environment=deploy-list-a', 1],
      [`${q}&status=active`, 2],
      [`${q}&status=failed`, 0],
      ['q=DEPLOY-LIST-B.EXAMPLE%2F100%25', 1],
      [`${q}&company=Deployers&base_model=deploy%20base`, 2],
      [`${q}&company=Others`, 0],
      [`${q}&parameter_count=7B&tags=deployed,chat`, 2],
      [`${q}&parameter_count=%3E%3D7000000000`, 2],
      [`${q}&parameter_count=%3C7B`, 0],
      [`${q}&tags=deployed&tags=german`, 0],
      [`${q}&version=V1&quantization=`, 2],
      [`${q}&quantization=fp16`, 0],
    ] as const)
      expect((await told(ask('GET', `/deployments?${query}&total=true`))).total, query).to.equal(count);
    for (const sort of ['created_at', '-created_at', 'updated_at', '-updated_at']) {
      const listed = await allPages(ask, `/deployments?model=api-deployments%2Fone&sort=${sort}`, 7);
      const times = listed.map((deployment) => deployment[sort.replace('-', '')] as string);
      const sorted = [...times].sort();
      expect(times, sort).to.deep.equal(sort.startsWith('-') ? sorted.reverse() : sorted);
      expect(new Set(listed.map(({ id }) => id)).size).to.equal(listed.length);
    }
    expect(await faultsOf(ask('GET', '/deployments?status=draft&sort=name&release_id=x'))).to.deep.equal([
      'query.release_id',
      'query.sort',
      'query.status',
    ]);
  });

  it('are counted by environment, whose current ones are found under two paths', async () => {
    const first = await deploy(releases[0], 'deploy-environment');
    const second = await deploy(releases[1], 'deploy-environment');
    const environments = await allPages(ask, '/environments', 5);
    expect(environments.map(({ name }) => name)).to.deep.equal(environments.map(({ name }) => name).sort());
    expect(environments.find(({ name }) => name === 'deploy-environment')).to.deep.equal({
      name: 'deploy-environment',
      active: 1,
      deployments: 2,
    });
    expect((await told(ask('GET', '/environments?total=true&limit=1'))).total).to.equal(environments.length);
    for (const path of ['/environments', '/deployments/environments']) {
      const { items } = await told(ask('GET', `${path}/deploy-environment/current`));
      expect(items).to.deep.equal([await get(second.id)]);
      expect(await told(ask('GET', `${path}/deploy-environment/current?model=nobody`))).to.deep.include({ items: [] });
      expect(await told(ask('GET', `${path}/nowhere/current`))).to.deep.include({ items: [] });
      expect(await faultsOf(ask('GET', `${path}/a%20b/current`))).to.deep.equal(['path.environment']);
    }
    expect(await statusOf(first)).to.equal('superseded');
    const stranger = (await makeKey(server, ['elsewhere/**=pull'])).text;
    expect((await told(ask('GET', '/environments', undefined, { key: stranger }))).items).to.deep.equal([]);
  });

  it('take the right to deploy', async () => {
    const { id } = await deploy(releases[0], 'deploy-rights');
    const writer = (await makeKey(server, ['api-deployments/**=pull,push,delete'])).text;
    const stranger = (await makeKey(server, ['elsewhere/**=pull,deploy'])).text;
    const deployer = (await makeKey(server, ['api-deployments/**=pull,deploy'])).text;
    const body = { release_id: releases[0]?.id, environment: 'deploy-rights' };
    const asked = [
      ['POST', '/deployments', body, 422],
      ['PATCH', `/deployments/${id}`, {}, 404],
      ['POST', `/deployments/${id}/rollback`, undefined, 404],
      ['DELETE', `/deployments/${id}`, undefined, 404],
    ] as const;
    for (const [method, path, what, unseen] of asked) {
      expect((await ask(method, path, what, { key: writer })).status, `${method} ${path}`).to.equal(403);
      expect((await ask(method, path, what, { key: stranger })).status, `${method} ${path}`).to.equal(unseen);
      expect((await ask(method, path, what, { key: deployer })).status, `${method} ${path}`).to.be.lessThan(300);
    }
  });
});
