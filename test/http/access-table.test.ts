import { expect } from 'chai';
import { ociRoutes } from '../../src/http/oci/routes.js';
import { basic, bearer, makeKey, signIn } from '../support/keys.js';
import { ADMIN_KEY, AUTHORIZATION, type TestServer } from '../support/server.js';
import { digestOf, imageOf, pushBlob, pushConfig } from './content.js';
import { sharedServer } from './shared-server.js';
import { exchange } from './wire.js';

/** What each route takes. `somebody`: any key; `catalog`: any key, and the list is filtered. */
const RIGHTS: Readonly<Record<string, string>> = {
  'GET /v2{/}': 'somebody',
  'GET /v2/_catalog': 'catalog',
  'POST /v2/*name/blobs/uploads{/}': 'push',
  'PATCH /v2/*name/blobs/uploads/:upload{/}': 'push',
  'PUT /v2/*name/blobs/uploads/:upload{/}': 'push',
  'GET /v2/*name/blobs/uploads/:upload{/}': 'push',
  'DELETE /v2/*name/blobs/uploads/:upload{/}': 'push',
  'HEAD /v2/*name/blobs/:digest': 'pull',
  'GET /v2/*name/blobs/:digest': 'pull',
  'DELETE /v2/*name/blobs/:digest': 'delete',
  'GET /v2/*name/manifests/:reference': 'pull',
  'PUT /v2/*name/manifests/:reference': 'push',
  'DELETE /v2/*name/manifests/:reference': 'delete',
  'GET /v2/*name/tags/list': 'pull',
  'GET /v2/*name/referrers/:digest': 'pull',
};

const REPOSITORY = 'table/model';

/** Who comes, and what they may do in REPOSITORY; undefined: their credentials are none. */
const PEOPLE: readonly (readonly [
  who: string,
  grants: readonly string[] | undefined,
  may: readonly string[] | undefined,
])[] = [
  ['nobody', undefined, undefined],
  ['a wrong key', undefined, undefined],
  ['a reader', ['table/*=pull'], ['somebody', 'catalog', 'pull']],
  [
    'a writer of another repository',
    ['table/other=pull,push,delete,deploy', 'table/model/**=pull,push'],
    ['somebody', 'catalog'],
  ],
  ['a writer', ['table/**=pull,push'], ['somebody', 'catalog', 'pull', 'push']],
  ['one who may only delete', ['**=delete'], ['somebody', 'catalog', 'delete']],
  ['an admin', ['**=admin'], ['somebody', 'catalog', 'pull', 'push', 'delete']],
];

describe('the table of access', () => {
  let server: TestServer;
  let paths: (template: string) => string[];

  before(async () => {
    server = await sharedServer();
    const bytes = Buffer.from('of the table of access');
    const blob = await pushBlob(server, REPOSITORY, bytes);
    const config = await pushConfig(server, REPOSITORY);
    const manifest = imageOf(config, []);
    const put = await server.request('PUT', `/v2/${REPOSITORY}/manifests/v1`, {
      body: manifest,
      headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
    });
    expect(put.status).to.equal(201);
    const opened = await server.request('POST', `/v2/${REPOSITORY}/blobs/uploads/`);
    const upload = opened.headers.get('docker-upload-uuid') ?? '';
    // Each once for what is there and once for what is not.
    paths = (template) =>
      [
        [blob, 'v1', upload],
        [digestOf('absent'), 'absent', '00000000-0000-4000-8000-000000000000'],
      ].map(([digest = '', reference = '', session = '']) =>
        template
          .replace('*name', REPOSITORY)
          .replace(':digest', digest)
          .replace(':reference', reference)
          .replace(':upload', session)
          .replace('{/}', '/'),
      );
  });

  it('has every route that there is, and no other', () => {
    const routes = ociRoutes({} as Parameters<typeof ociRoutes>[0]).stack.flatMap((layer) =>
      layer.methods.map((method) => `${method} ${layer.path}`),
    );
    // The router makes a HEAD of every GET.
    const made = routes.filter((route) => !route.startsWith('HEAD') || route.endsWith('/blobs/:digest'));
    expect([...new Set(made)].sort()).to.deep.equal(Object.keys(RIGHTS).sort());
  });

  for (const [who, grants, may] of PEOPLE) {
    it(`holds for ${who}, by every means of coming`, async function () {
      this.timeout(60_000);
      const means = await meansOf(server, who, grants);
      for (const [template, right] of Object.entries(RIGHTS)) {
        const [method = '', path = ''] = template.split(' ');
        for (const target of paths(path)) {
          for (const [how, headers] of means) {
            const { status, body, headers: answered } = await exchange(server.host, method, target, { headers });
            const what = `${method} ${target} by ${how}`;
            if (may?.includes(right)) expect(status, what).not.to.be.oneOf([401, 403, 500]);
            else {
              expect(status, what).to.equal(may === undefined ? 401 : 403);
              const code = may === undefined ? 'UNAUTHORIZED' : 'DENIED';
              if (method !== 'HEAD') expect(JSON.parse(body.toString()).errors[0].code, what).to.equal(code);
              expect(answered['www-authenticate'] === undefined, what).to.equal(may !== undefined);
            }
          }
        }
      }
    });
  }
});

/** A cookie as they are, and of nobody. */
function noSession({ url }: TestServer): string {
  return `${url.startsWith('https') ? '__Host-' : ''}weighhouse_session=whs_${'A'.repeat(43)}`;
}

async function meansOf(server: TestServer, who: string, grants: readonly string[] | undefined) {
  if (who === 'nobody') return [['nothing', { authorization: '' }]] as const;
  const wrong = `${ADMIN_KEY}-but-wrong`;
  if (grants === undefined) {
    const token = `${await bearer(server, AUTHORIZATION, REPOSITORY)}x`;
    return [
      ['Basic', { authorization: basic(wrong) }],
      ['X-API-Key', { authorization: '', 'x-api-key': wrong }],
      ['a broken token', { authorization: token }],
      ['the cookie of no session', { authorization: '', cookie: noSession(server) }],
    ] as const;
  }
  const { text, authorization } = await makeKey(server, grants);
  return [
    ['Basic', { authorization }],
    ['X-API-Key', { authorization: '', 'x-api-key': text }],
    ['a token', { authorization: await bearer(server, authorization, REPOSITORY, 'catalog') }],
    ['a session', { authorization: '', ...(await signIn(server, text)).headers }],
  ] as const;
}
