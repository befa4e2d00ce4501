import { expect } from 'chai';
import { apiRoutes } from '../../src/http/api/routes.js';
import { REVOKED_MS } from '../../src/auth/lease.js';
import { setVisibility } from '../../src/auth/visibility.js';
import { api, type ApiAnswer } from '../support/api.js';
import { basic, bearer, makeKey, onDatabase, signIn, UNHEARD } from '../support/keys.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';
import { bytesOf, digestOf, pushBlob, pushConfig, imageOf, putManifest } from './content.js';
import { sharedServer } from './shared-server.js';

/**
 * What each route takes. `list`: any key, and it shows only what may be pulled; `usage`: as well, some seconds behind;
 * `listing` and `admin`: an admin, also a
 * read-only one for the first. Of the others: who may not pull is told that it is not there, whatever else it may.
 */
const RIGHTS: Readonly<Record<string, string>> = {
  'GET /models': 'list',
  'POST /models': 'create',
  'GET /models/:model': 'pull',
  'PUT /models/:model': 'push',
  'PATCH /models/:model': 'push',
  'DELETE /models/:model': 'delete',
  'GET /models/:model/releases': 'pull',
  'GET /models/:model/matrix': 'pull',
  'GET /models/:model/events': 'pull',
  'GET /models/:model/aliases': 'pull',
  'GET /models/:model/aliases/:alias': 'pull',
  'PUT /models/:model/aliases/:alias': 'deploy',
  'DELETE /models/:model/aliases/:alias': 'deploy',
  'GET /models/:model/aliases/:alias/history': 'pull',
  'GET /releases': 'list',
  'POST /releases': 'push',
  'GET /releases/latest': 'pull',
  'GET /releases/compare': 'pull',
  'GET /releases/:id': 'pull',
  'PUT /releases/:id': 'push',
  'PATCH /releases/:id': 'push',
  'DELETE /releases/:id': 'delete',
  'GET /releases/:id/deployments': 'pull',
  'GET /releases/:id/artifacts': 'pull',
  'GET /releases/:id/manifest': 'pull',
  'GET /releases/:id/usage': 'pull',
  'POST /releases/:id/publish': 'push',
  'GET /deployments': 'list',
  'POST /deployments': 'deploy',
  'GET /deployments/:id': 'pull',
  'PATCH /deployments/:id': 'deploy',
  'DELETE /deployments/:id': 'deploy',
  'POST /deployments/:id/rollback': 'deploy',
  'GET /deployments/:id/history': 'pull',
  'GET /deployments/environments/:environment/current': 'list',
  'GET /environments': 'list',
  'GET /environments/:environment/current': 'list',
  'GET /artifacts': 'list',
  'POST /artifacts': 'push',
  'POST /artifacts/upload': 'push',
  'GET /artifacts/:id': 'pull',
  'PUT /artifacts/:id': 'push',
  'PATCH /artifacts/:id': 'push',
  'DELETE /artifacts/:id': 'delete',
  'GET /artifacts/:id/download': 'pull',
  'GET /api-keys': 'listing',
  'POST /api-keys': 'admin',
  'PATCH /api-keys/:id': 'admin',
  'DELETE /api-keys/:id': 'admin',
  'GET /policies': 'listing',
  'POST /policies': 'admin',
  'GET /policies/:id': 'listing',
  'PATCH /policies/:id': 'admin',
  'DELETE /policies/:id': 'admin',
  'POST /retention/preview': 'pull',
  'GET /usage': 'usage',
  'GET /usage/repositories': 'usage',
  'GET /usage/models': 'usage',
  'GET /usage/days': 'listing',
  'GET /audit-logs': 'listing',
};

const REPOSITORY = 'apitable/model';
const ENVIRONMENT = 'apitable-env';
const NOBODY = '00000000-0000-4000-8000-000000000000';

/** What may be done in REPOSITORY by a key with these grants. */
const PEOPLE: readonly (readonly [
  who: string,
  grants: readonly string[],
  may: readonly string[],
  readOnly?: boolean,
])[] = [
  ['a reader', ['apitable/*=pull'], ['pull']],
  [
    'a writer of another repository',
    ['apitable/other=pull,push,delete,deploy', 'apitable/model/**=pull,push,delete,deploy'],
    [],
  ],
  ['a writer', ['apitable/**=pull,push'], ['pull', 'push', 'create']],
  ['a deployer', ['apitable/model=pull,deploy'], ['pull', 'deploy']],
  ['one who may read and delete', ['apitable/model=pull,delete'], ['pull', 'delete']],
  ['one who may only delete', ['**=delete'], []],
  ['one who may do everything but read', ['**=push,delete,deploy'], ['create']],
  ['an admin', ['**=admin'], ['pull', 'push', 'delete', 'deploy', 'create', 'listing', 'admin']],
  ['a read-only admin', ['**=admin'], ['pull', 'listing'], true],
];

interface Scene {
  readonly model: string;
  readonly release: string;
  readonly draft: string;
  readonly deployment: string;
  readonly artifact: string;
  readonly key: string;
  readonly policy: string;
}

const ABSENT: Scene = {
  model: NOBODY,
  release: NOBODY,
  draft: NOBODY,
  deployment: NOBODY,
  artifact: NOBODY,
  key: NOBODY,
  policy: NOBODY,
};

/** A model with a release that is deployed and has an alias, and a draft with a file. */
async function makeScene(server: TestServer, repository = REPOSITORY): Promise<Scene> {
  const made = async (method: string, path: string, body?: object) => {
    const answer = await api<{ id: string }>(server, method, path, body === undefined ? {} : { body });
    expect(answer.status, `${method} ${path} ${answer.bytes}`).to.be.oneOf([200, 201]);
    return answer.body.id;
  };
  const model = await made('POST', '/models', { name: repository, storage_path: repository });
  const digest = await pushBlob(server, repository, bytesOf(repository, 100));
  const manifest = imageOf(await pushConfig(server, repository), []);
  expect((await putManifest(server, repository, 'v1.0-fp16', manifest)).status).to.equal(201);
  const releases = await api<{ items: { id: string }[] }>(server, 'GET', `/models/${model}/releases`);
  const release = releases.body.items[0]?.id ?? '';
  await made('PUT', `/models/${model}/aliases/stable`, { release_id: release });
  const deployment = await made('POST', '/deployments', { release_id: release, environment: ENVIRONMENT });
  const draft = await made('POST', '/releases', { model_id: model, version: 'v2.0' });
  const artifact = await made('POST', '/artifacts', { release_id: draft, digest, path: 'a/file.bin' });
  const { id } = await makeKey(server, []);
  const [key] = await onDatabase(server, (database) =>
    database.query<{ id: string }>('select id from api_keys where key_prefix = $1', [id]),
  );
  const policy = await made('POST', '/policies', { pattern: repository });
  return { model, release, draft, deployment, artifact, key: key?.id ?? '', policy };
}

interface Asked {
  readonly path: string;
  readonly body?: object | string;
}

/** A request of a route to a scene that changes nothing, also if it may: what it asks for is in the way, or was changed. */
function ask(route: string, scene: Scene, repository = REPOSITORY): Asked {
  const [, template = ''] = route.split(' ');
  const path = template
    .replace(':model', scene.model)
    .replace(':alias', 'stable')
    .replace(':environment', ENVIRONMENT)
    .replace(
      ':id',
      scene[
        /^\/(release|deployment|artifact|api-key|polic)/
          .exec(template)?.[1]
          ?.replace('api-', '')
          .replace('polic', 'policy') as keyof Scene
      ],
    );
  const queries: Readonly<Record<string, string>> = {
    'GET /models': `?name=${encodeURIComponent(repository)}&total=true`,
    'GET /releases': `?model=${scene.model}&total=true`,
    'GET /deployments': `?model=${scene.model}&total=true`,
    'GET /artifacts': `?model=${scene.model}&total=true`,
    'GET /releases/latest': `?model=${scene.model}`,
    'GET /releases/compare': `?from=${scene.release}&to=${scene.release}`,
    'POST /artifacts/upload': `?release_id=${scene.draft}&name=x&checksum=${digestOf('another')}`,
  };
  const bodies: Readonly<Record<string, object | string>> = {
    'POST /models': { name: 'another of the table', storage_path: repository },
    'PUT /models/:model': { name: 'renamed', storage_path: repository },
    'PUT /models/:model/aliases/:alias': { release_id: scene.release },
    'POST /releases': { model_id: scene.model, version: 'v1.0', quantization: 'FP16' },
    'PUT /releases/:id': { version: 'v9.9' },
    'POST /deployments': { release_id: scene.draft, environment: ENVIRONMENT },
    'POST /artifacts': { release_id: scene.draft, digest: digestOf('absent'), name: 'x' },
    'POST /artifacts/upload': 'the bytes',
    'PUT /artifacts/:id': { name: 'x' },
    'POST /policies': { pattern: repository },
    'POST /retention/preview': { model_id: scene.model, retention: { younger_than_days: 1 } },
    'POST /api-keys': { name: 'of nobody', grants: [], expires_at: '2020-01-01T00:00:00Z' },
  };
  const body = bodies[route] ?? (route.startsWith('PATCH') ? {} : undefined);
  return { path: path + (queries[route] ?? ''), ...(body === undefined ? {} : { body }) };
}

type Headers = Readonly<Record<string, string>>;

async function send(server: TestServer, route: string, { path, body }: Asked, headers: Headers): Promise<ApiAnswer> {
  const [method = ''] = route.split(' ');
  // Whoever may is told that it was changed since.
  const match: Headers = method === 'GET' ? {} : { 'if-match': '"another"' };
  const type: Headers = typeof body === 'string' ? { 'content-type': 'application/octet-stream' } : {};
  return await api(server, method, path, {
    key: null,
    headers: { ...headers, ...match, ...type },
    ...(body === undefined ? {} : { body }),
  });
}

const said = ({ status, bytes }: ApiAnswer) => `${status} ${bytes.toString('utf8')}`;
const isPassed = ({ status }: ApiAnswer) => ![401, 403, 404].includes(status) && status < 500;

/** How many entries of the scene a list shows; it has only them, and counts only them. */
function shown(route: string, { body, status }: ApiAnswer): number {
  const { items, total } = body as unknown as { items: { name?: string }[]; total?: number };
  expect(status, route).to.equal(200);
  if (route.endsWith('/environments')) return items.filter(({ name }) => name === ENVIRONMENT).length;
  if (total !== undefined) expect(total, route).to.equal(items.length);
  return items.length;
}

describe('the table of access of the metadata API', function () {
  this.timeout(60_000);
  let server: TestServer;
  let scene: Scene;

  before(async () => {
    server = await sharedServer();
    scene = await makeScene(server);
  });

  it('has every route of the metadata API, and no other', () => {
    const options = { operation: () => () => Promise.resolve(), keys: {}, policies: {} } as unknown as Parameters<
      typeof apiRoutes
    >[0];
    // What takes every method is there to refuse it.
    const layers = apiRoutes(options).stack.filter(({ methods }) => methods.length <= 2);
    const routes = layers.flatMap(({ path, methods }) =>
      methods.filter((method) => method !== 'HEAD').map((method) => `${method} ${String(path).replace('/api/v1', '')}`),
    );
    expect(routes.sort()).to.deep.equal(Object.keys(RIGHTS).sort());
  });

  for (const [who, means, detail] of [
    ['nobody', [{}], 'Missing API key'],
    [
      'whoever has a wrong key',
      [
        { authorization: basic(`${ADMIN_KEY}-but-wrong`) },
        { 'x-api-key': `${ADMIN_KEY}-but-wrong` },
        { authorization: 'Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.' },
      ],
      'Invalid API key',
    ],
  ] as const) {
    it(`sends ${who} away, whatever is there`, async function () {
      this.timeout(60_000);
      for (const route of Object.keys(RIGHTS))
        for (const there of [scene, ABSENT])
          for (const headers of means) {
            const { status, body } = await send(server, route, ask(route, there), headers as Headers);
            expect([status, body], route).to.deep.equal([401, { detail }]);
          }
    });
  }

  for (const [who, grants, may, readOnly = false] of PEOPLE) {
    it(`holds at the metadata API for ${who}, by every means of coming`, async function () {
      this.timeout(120_000);
      const { text, authorization } = await makeKey(server, grants, { readOnly });
      const token = await bearer(server, authorization, REPOSITORY, 'catalog');
      for (const [how, headers] of [
        ['Basic', { authorization }],
        ['X-API-Key', { 'x-api-key': text }],
        ['a token', { authorization: token }],
        ['a session', (await signIn(server, text)).headers],
      ] as const)
        for (const [route, right] of Object.entries(RIGHTS)) {
          const answer = await send(server, route, ask(route, scene), headers);
          const absent = await send(server, route, ask(route, ABSENT), headers);
          const what = `${route} by ${how}: ${said(answer)}`;
          if (right === 'list') expect(shown(route, answer) > 0, what).to.equal(may.includes('pull'));
          else if (right === 'usage') expect(answer.status, what).to.equal(200);
          else if (right === 'listing' || right === 'admin') {
            // A token of the token endpoint is for repositories.
            if (how === 'a token') expect(answer.body, what).to.deep.equal({ detail: 'Invalid API key' });
            else if (may.includes(right)) expect(isPassed(answer), what).to.equal(true);
            else expect([answer.status, absent.status], what).to.deep.equal([403, 403]);
          } else if (right === 'create') expect(answer.status, what).to.equal(may.includes('create') ? 409 : 403);
          else if (!may.includes('pull')) {
            expect(said(answer), what).to.equal(said(absent));
            expect(answer.status, what).to.be.oneOf(route.startsWith('POST') ? [404, 422] : [404]);
          } else if (may.includes(right)) {
            expect(isPassed(answer), what).to.equal(true);
            expect(said(answer), what).not.to.equal(said(absent));
          } else {
            expect(answer.status, what).to.equal(403);
            expect(absent.status, what).to.be.oneOf(route.startsWith('POST') ? [404, 422] : [404]);
          }
        }
    });
  }

  it('asks an admin where something is forced', async () => {
    const { text } = await makeKey(server, ['apitable/**=pull,push,delete,deploy']);
    for (const path of [`/releases/${scene.release}`, `/models/${scene.model}`]) {
      const answer = await api(server, 'DELETE', `${path}?force=true`, { key: text });
      expect([answer.status, (await api(server, 'GET', path)).status], path).to.deep.equal([403, 200]);
      expect((await api(server, 'DELETE', path, { key: text })).status, path).to.equal(409);
    }
  });

  it('shows who may see some of it those alone, and counts them alone', async () => {
    const other = 'apitable/another';
    const hidden = await makeScene(server, other);
    const { text } = await makeKey(server, [`${REPOSITORY}=pull`]);
    const ofKey = async (path: string) =>
      (await api<{ items: Record<string, unknown>[]; total: number }>(server, 'GET', path, { key: text })).body;
    for (const [path, name, wanted] of [
      ['/models', 'id', scene.model],
      ['/releases', 'model_id', scene.model],
      ['/deployments', 'model_id', scene.model],
      ['/environments/apitable-env/current', 'model_id', scene.model],
    ] as const) {
      const { items, total } = await ofKey(`${path}?total=true`);
      expect(new Set(items.map((item) => item[name])), path).to.deep.equal(new Set([wanted]));
      expect(total, path).to.equal(items.length);
    }
    const files = await ofKey('/artifacts?total=true');
    expect(files.items.every(({ release_id: id }) => id === scene.draft || id === scene.release)).to.equal(true);
    expect(files.total).to.equal(files.items.length).and.be.above(0);
    const environments = await ofKey('/environments');
    expect(environments.items).to.deep.equal([{ name: ENVIRONMENT, active: 1, deployments: 1 }]);
    // Nor by asking for what is hidden.
    for (const path of [
      `/releases?model=${hidden.model}`,
      `/artifacts?release_id=${hidden.draft}`,
      `/models?q=another`,
    ])
      expect((await ofKey(`${path}&total=true`)).items, path).to.deep.equal([]);
    const compared = await api(server, 'GET', `/releases/compare?from=${scene.release}&to=${hidden.release}`, {
      key: text,
    });
    expect(compared.status).to.equal(404);
  });
});

describe('the metadata API without a key', function () {
  this.timeout(60_000);
  let server: TestServer;
  let open: Scene;
  let hidden: Scene;
  const PRIVATE = 'hidden/model';

  before(async () => {
    server = await startServer({ environment: { REGISTRY_ANONYMOUS: 'pull' } });
    open = await makeScene(server);
    hidden = await makeScene(server, PRIVATE);
    await onDatabase(server, (database) => setVisibility(database, 'hidden/**', false, UNHEARD));
    for (;;) if ((await api(server, 'GET', `/models/${hidden.model}`, { key: null })).status === 404) break;
  });
  after(() => server.dispose());

  it('reads where everybody may, and changes nothing', async () => {
    for (const [route, right] of Object.entries(RIGHTS)) {
      const answer = await send(server, route, ask(route, open), {});
      const what = `${route}: ${said(answer)}`;
      if (right === 'list') expect(shown(route, answer), what).to.be.above(0);
      else if (right === 'usage') expect(answer.status, what).to.equal(200);
      // Without a key one only asks by GET.
      else if (right === 'pull' && route.startsWith('GET')) expect(answer.status, what).to.equal(200);
      else expect([answer.status, answer.body], what).to.deep.equal([401, { detail: 'Missing API key' }]);
    }
  });

  it('is not told what is private', async () => {
    for (const [route, right] of Object.entries(RIGHTS)) {
      if (right !== 'pull' && right !== 'list') continue;
      if (route.includes('environment')) continue;
      const answer = await send(server, route, ask(route, hidden, PRIVATE), {});
      if (right === 'list') expect(shown(route, answer), route).to.equal(0);
      else expect(said(answer), route).to.equal(said(await send(server, route, ask(route, ABSENT), {})));
    }
    const environments = await api(server, 'GET', '/environments', { key: null });
    expect(environments.body.items).to.deep.equal([{ name: ENVIRONMENT, active: 1, deployments: 1 }]);
    const { text } = await makeKey(server, ['hidden/*=pull']);
    expect((await api(server, 'GET', `/models/${hidden.model}`, { key: text })).status).to.equal(200);
  });

  it('is refused with a wrong key, also where it could have been left out', async () => {
    const { status, body } = await api(server, 'GET', `/models/${open.model}`, { key: 'wrong' });
    expect([status, body]).to.deep.equal([401, { detail: 'Invalid API key' }]);
  });

  it('reads one repository that is public where others are not', async () => {
    const closed = await startServer();
    try {
      const scene = await makeScene(closed, 'public/model');
      const other = await makeScene(closed);
      expect((await api(closed, 'GET', `/models/${scene.model}`, { key: null })).status).to.equal(401);
      await onDatabase(closed, (database) => setVisibility(database, 'public/*', true, UNHEARD));
      // Nobody was told, so each worker believes what it knows for the length of a lease.
      await new Promise((resolve) => setTimeout(resolve, REVOKED_MS));
      expect((await api(closed, 'GET', `/models/${scene.model}`, { key: null })).status).to.equal(200);
      const list = await api<{ items: { id: string }[] }>(closed, 'GET', '/models?total=true', { key: null });
      expect(list.body).to.deep.include({ total: 1 });
      expect(list.body.items.map(({ id }) => id)).to.deep.equal([scene.model]);
      expect((await api(closed, 'GET', `/models/${other.model}`, { key: null })).status).to.equal(404);
      expect((await api(closed, 'DELETE', `/models/${scene.model}`, { key: null })).status).to.equal(401);
    } finally {
      await closed.dispose();
    }
  });
});
