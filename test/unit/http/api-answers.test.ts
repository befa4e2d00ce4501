import { expect } from 'chai';
import { loadContract } from '../../../src/commands/contract-files.js';
import { AnswerCheck } from '../../support/api.js';

const DEPLOYMENT = {
  id: '3f0c9a52-7d0e-4c55-9c1c-0a4a3c3f5b11',
  release_id: '3f0c9a52-7d0e-4c55-9c1c-0a4a3c3f5b12',
  model_id: '3f0c9a52-7d0e-4c55-9c1c-0a4a3c3f5b13',
  digest: `sha256:${'a'.repeat(64)}`,
  environment: 'production',
  status: 'active',
  endpoint: null,
  replicas: 2,
  deployed_by: 'admin',
  deployed_at: '2026-05-04T09:30:00.000Z',
  metadata: {},
  created_at: '2026-05-04T09:30:00.000Z',
  updated_at: '2026-05-04T09:30:00.000Z',
  version: 'v3.0',
  quantization: 'fp16',
  tag: 'v3.0-fp16',
  model_name: 'Polaris 7B',
};
const PATH = `/api/v1/deployments/${DEPLOYMENT.id}`;
const HEADERS = { 'content-type': 'application/json; charset=utf-8', 'x-request-id': 'r1', etag: '"e1"' };

describe("the check of the metadata API's answers", () => {
  let check: AnswerCheck;
  before(async () => {
    check = new AnswerCheck(await loadContract());
  });

  const look = (
    body: unknown,
    { status = 200, headers = HEADERS as Record<string, string>, path = PATH, method = 'GET' } = {},
  ) =>
    check.check(method, path, {
      status,
      headers: new Headers(headers),
      bytes: Buffer.from(body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body)),
    });

  it('passes an answer that is as the contract says', () => {
    expect(look(DEPLOYMENT)).to.deep.equal(DEPLOYMENT);
    look({ items: [DEPLOYMENT], next: null }, { path: '/api/v1/environments/production/current' });
    look(undefined, { status: 204, method: 'DELETE', headers: { 'x-request-id': 'r1' } });
    look({ detail: 'no such endpoint' }, { status: 404, path: '/api/v1/nothing' });
    look(undefined, { method: 'HEAD' });
  });

  const { metadata: _, ...lacking } = DEPLOYMENT;
  const { etag: __, ...untagged } = HEADERS;
  for (const [what, body, options, words] of [
    ['a status that is not documented', DEPLOYMENT, { status: 202 }, /202 is not in the contract/],
    ['a method that is not documented', DEPLOYMENT, { method: 'PUT' }, /is not in the contract/],
    ['a path that is not documented', DEPLOYMENT, { path: '/api/v1/nothing' }, /is not in the contract/],
    ['a missing field', lacking, {}, /'metadata'/],
    ['a field too many', { ...DEPLOYMENT, colour: 'blue' }, {}, /additional properties.*colour/],
    ['a time without its zone', { ...DEPLOYMENT, created_at: '2026-05-04T09:30:00' }, {}, /created_at.*date-time/],
    ['null where something must be', { ...DEPLOYMENT, tag: null }, {}, /tag must be string/],
    ['a missing header', DEPLOYMENT, { headers: untagged }, /has no ETag/],
    ['a header that is not well formed', DEPLOYMENT, { headers: { ...HEADERS, etag: 'W/"e1"' } }, /ETag is not/],
    ['another type', 'text', { headers: { ...HEADERS, 'content-type': 'text/plain' } }, /is text\/plain/],
    ['no type', DEPLOYMENT, { headers: { ...untagged, etag: '"e1"', 'content-type': '' } }, /of no type/],
    ['a body where there is none', DEPLOYMENT, { status: 204, method: 'DELETE' }, /has a body/],
    ['an error in the form of another door', { errors: [] }, { status: 404 }, /'detail'/],
  ] as const)
    it(`fails on ${what}`, () => {
      expect(() => look(body, options as object)).to.throw(words);
    });
});
