import { expect } from 'chai';
import fc from 'fast-check';
import type { TestServer } from '../support/server.js';
import { digestOf, expectError, pushBlob, pushImage, putManifest } from './content.js';
import { sharedServer } from './shared-server.js';

/** Byte order; JavaScript's own is by UTF-16 units, which is the same for ASCII. */
const sorted = (names: readonly string[]) => [...names].sort();

/** The path and query of a Link to the next page, in the very form of RFC 8288. */
function nextOf(answer: Response): string | undefined {
  const link = answer.headers.get('link');
  if (link === null) return undefined;
  const [, target] = /^<([^<>]+)>; rel="next"$/.exec(link) ?? [];
  expect(target, link).to.be.a('string');
  return target;
}

describe('lists of tags and repositories', () => {
  let server: TestServer;
  const tags = [
    'latest',
    'v1.0',
    'v1.0-fp16',
    'v1.10',
    'v1.2',
    'V1.0',
    '_hidden',
    '0',
    '00',
    'a'.repeat(128),
    'z',
    'Z',
    'v1_0',
    'v1-0',
    'sha256-abc.sig',
    ...Array.from({ length: 40 }, (_, index) => `t${index}`),
  ];
  let manifest: Buffer;

  before(async () => {
    server = await sharedServer();
    manifest = await pushImage(server, 'lists/model', undefined);
    for (const part of [tags.slice(0, 30), tags.slice(30)]) {
      const query = part.map((tag) => `tag=${tag}`).join('&');
      const pushed = await putManifest(server, 'lists/model', `${digestOf(manifest)}?${query}`, manifest);
      expect(pushed.status).to.equal(201);
    }
  });

  async function list(query: string): Promise<{ tags: string[]; next: string | undefined }> {
    const answer = await server.request('GET', query.startsWith('/') ? query : `/v2/lists/model/tags/list${query}`);
    expect(answer.status).to.equal(200);
    expect(answer.headers.get('content-type')).to.match(/^application\/json/);
    const body = (await answer.json()) as { name: string; tags: string[] };
    expect(body.name).to.equal('lists/model');
    return { tags: body.tags, next: nextOf(answer) };
  }

  it('lists all tags in byte order without a Link', async () => {
    expect(await list('')).to.deep.equal({ tags: sorted(tags), next: undefined });
  });

  it('answers n=0 with an empty list and no Link', async () => {
    expect(await list('?n=0')).to.deep.equal({ tags: [], next: undefined });
    expect(await list('?n=0&last=a')).to.deep.equal({ tags: [], next: undefined });
  });

  it('sends no Link with the last page, also when it is just full', async () => {
    const n = tags.length;
    expect(await list(`?n=${n}`)).to.deep.equal({ tags: sorted(tags), next: undefined });
    expect((await list(`?n=${n - 1}`)).next).to.be.a('string');
    expect((await list(`?n=${n + 1}`)).next).to.equal(undefined);
  });

  it('pages as a model in byte order does, for any n and any last', async () => {
    const anyLast = fc.oneof(fc.constantFrom(...tags), fc.string({ maxLength: 6 }), fc.string({ unit: 'grapheme' }));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 70 }), fc.option(anyLast), async (n, last) => {
        fc.pre(!last?.includes('\0'));
        const after = sorted(tags).filter(
          (tag) => last === null || Buffer.compare(Buffer.from(tag), Buffer.from(last)) > 0,
        );
        const page = await list(`?n=${n}${last === null ? '' : `&last=${encodeURIComponent(last)}`}`);
        expect(page.tags).to.deep.equal(after.slice(0, n));
        expect(page.next !== undefined).to.equal(n > 0 && after.length > n);
      }),
      { numRuns: 60 },
    );
  });

  it('reaches every tag once by following Links, whatever the size of a page', async () => {
    for (const n of [1, 7, 54, 1000]) {
      const seen: string[] = [];
      for (let next: string | undefined = `?n=${n}`; next !== undefined; ) {
        const page: Awaited<ReturnType<typeof list>> = await list(next);
        seen.push(...page.tags);
        next = page.next;
      }
      expect(seen).to.deep.equal(sorted(tags));
    }
  });

  it('answers [] and not null for a repository without tags', async () => {
    await pushBlob(server, 'lists/untagged', Buffer.from('only a blob'));
    const answer = await server.request('GET', '/v2/lists/untagged/tags/list');
    expect(await answer.text()).to.equal('{"name":"lists/untagged","tags":[]}');
  });

  it('knows no tags of a repository that is not there', async () => {
    await expectError(await server.request('GET', '/v2/lists/nothing/tags/list'), 404, 'NAME_UNKNOWN');
  });

  for (const query of ['n=-1', 'n=x', 'n=1.5', 'n=', 'n=1e3', 'n=%00', 'n=1&n=2', 'last=a&last=b', 'last=%00']) {
    it(`refuses the list of tags with ?${query}`, async () => {
      await expectError(await server.request('GET', `/v2/lists/model/tags/list?${query}`), 400, 'UNSUPPORTED');
    });
  }

  it('takes a huge n for as much as it gives', async () => {
    expect((await list('?n=999999999999999')).tags).to.deep.equal(sorted(tags));
  });

  it('moves a tag and leaves the former manifest by its digest', async () => {
    const first = await pushImage(server, 'lists/moving', 'v1', { annotations: { n: '1' } });
    const second = await pushImage(server, 'lists/moving', 'v1', { annotations: { n: '2' } });
    const pulled = await server.request('GET', '/v2/lists/moving/manifests/v1');
    expect(await pulled.text()).to.equal(second.toString());
    const former = await server.request('GET', `/v2/lists/moving/manifests/${digestOf(first)}`);
    expect(await former.text()).to.equal(first.toString());
  });

  it('sets several tags by one PUT, names each in OCI-Tag, and takes one that is given twice', async () => {
    const bytes = await pushImage(server, 'lists/several', undefined);
    const many = Array.from({ length: 12 }, (_, index) => `many${index}`);
    const query = [...many, 'many0'].map((tag) => `tag=${tag}`).join('&');
    const pushed = await putManifest(server, 'lists/several', `${digestOf(bytes)}?${query}`, bytes);
    expect(pushed.status).to.equal(201);
    expect(new Set(pushed.headers.get('oci-tag')?.split(', '))).to.deep.equal(new Set(many));
    for (const tag of many) {
      const pulled = await server.request('HEAD', `/v2/lists/several/manifests/${tag}`);
      expect(pulled.headers.get('docker-content-digest')).to.equal(digestOf(bytes));
    }
  });

  it('sets no tag at all when one of several is malformed', async () => {
    const bytes = await pushImage(server, 'lists/none', undefined);
    const query = 'tag=good&tag=-bad';
    const pushed = await putManifest(server, 'lists/none', `${digestOf(bytes)}?${query}`, bytes);
    await expectError(pushed, 400, 'MANIFEST_INVALID');
    expect((await server.request('HEAD', '/v2/lists/none/manifests/good')).status).to.equal(404);
  });

  it('lists repositories page by page in _catalog', async () => {
    const names = ['catalog/a', 'catalog/a-b', 'catalog/a/b', 'catalog/a.b', 'catalog/ab', 'catalog/a_b'];
    for (const name of names) await pushImage(server, name, 'v1');
    await pushBlob(server, 'catalog/without-manifests', Buffer.from('x'));
    const seen: string[] = [];
    for (let next: string | undefined = '/v2/_catalog?n=2&last=catalog/'; next !== undefined; ) {
      const answer: Response = await server.request('GET', next);
      expect(answer.status).to.equal(200);
      const page = ((await answer.json()) as { repositories: string[] }).repositories;
      expect(page.length).to.be.at.most(2);
      seen.push(...page);
      next = page.every((name) => name.startsWith('catalog/')) ? nextOf(answer) : undefined;
    }
    expect(seen.filter((name) => name.startsWith('catalog/'))).to.deep.equal(sorted(names));
    const whole = (await (await server.request('GET', '/v2/_catalog')).json()) as { repositories: string[] };
    expect(whole.repositories).to.deep.equal(sorted(whole.repositories)).and.to.include.members(names);
    const none = await server.request('GET', '/v2/_catalog?n=0');
    expect(await none.json()).to.deep.equal({ repositories: [] });
    expect(none.headers.get('link')).to.equal(null);
    await expectError(await server.request('GET', '/v2/_catalog?n=-1'), 400, 'UNSUPPORTED');
  });
});
