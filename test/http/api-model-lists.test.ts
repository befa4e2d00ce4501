import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import { allPages, type Ask, asker, faultsOf, pushRelease, releaseOf, type Resource, told } from './api-scene.js';
import { sharedServer } from './shared-server.js';

const SIZES = [
  ['a', '350M'],
  ['b', '7B'],
  ['c', '7.49B'],
  ['d', '13B'],
  ['e', null],
] as const;

const SORTS = ['created_at', '-created_at', 'name', '-updated_at'];

describe('lists of models over HTTP', () => {
  let server: TestServer;
  let ask: Ask;
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
    for (const [index, [letter, parameter_count]] of SIZES.entries())
      await told(
        ask('POST', '/models', {
          name: `lists ${letter}`,
          storage_path: `api-lists/${letter}`,
          company: index % 2 === 0 ? 'Lists Even' : null,
          base_model: `lists base ${'edcba'[index]}`,
          parameter_count,
          description: `100%_sure of ${letter}`,
          tags: ['lists', ...(index < 3 ? ['lists-small'] : []), `lists-${letter}`],
        }),
        201,
      );
    await pushRelease(server, 'api-lists/a', 'v1.0-lists-Q4_K_M');
    await pushRelease(server, 'api-lists/b', 'v2.0-lists');
    const { id: release_id } = await releaseOf(ask, 'lists a', 'v1.0-lists-Q4_K_M');
    await told(ask('POST', '/deployments', { release_id, environment: 'lists-prod' }), 201);
    await told(
      ask('POST', '/releases', { model_id: (await told(ask('GET', '/models/lists%20c'))).id, version: 'v9' }),
      201,
    );
  });

  const letters = (items: readonly Resource[]) => items.map(({ name }) => String(name).slice(-1)).join('');
  /** The last letters of the models that a query finds, in its order. */
  const found = async (query: string) =>
    letters((await told(ask('GET', `/models?sort=name&tags=lists&${query}`))).items);

  it('are filtered by every field', async () => {
    for (const [query, wanted] of [
      ['', 'abcde'],
      ['name=lists%20b', 'b'],
      ['company=Lists%20Even', 'ace'],
      ['base_model=lists%20base%20e', 'a'],
      ['parameter_count=7B', 'bc'],
      ['parameter_count=7.0B', 'b'],
      ['parameter_count=7000000000', 'b'],
      ['parameter_count=%3E=7000000000', 'bcd'],
      ['parameter_count=%3E7B', 'cd'],
      ['parameter_count=%3C13B', 'abc'],
      ['parameter_count=350M..7B', 'ab'],
      ['quantization=q4_k_m', 'a'],
      ['quantization=fp16', ''],
      ['version=V2.0-LISTS', 'b'],
      ['environment=lists-prod', 'a'],
      ['environment=nowhere', ''],
      ['status=draft', 'c'],
      ['status=published', 'ab'],
      ['tags=lists-small', 'abc'],
      ['tags=lists-small&tags=lists-b', 'b'],
      ['tags=lists-small,lists-c', 'c'],
      ['tags=lists-c,lists-d', ''],
      ['q=API-LISTS%2Fd', 'd'],
      ['q=lists%20even', 'ace'],
      ['q=f%20e', 'e'],
      ['q=_S', 'abcde'],
      ['q=%25_', 'abcde'],
      ['q=__', ''],
      ['q=100%25_sure%20of%20e', 'e'],
      ['q=100__sure', ''],
    ] as const)
      expect(await found(query), query).to.equal(wanted);
  });

  it('find those without a quantization by an empty one', async () => {
    expect(await found('quantization=')).to.equal('bc');
    const releases = await told(ask('GET', '/releases?tags=lists&quantization='));
    expect(releases.items.map((release: Resource) => release.tag).sort()).to.deep.equal(['v2.0-lists', 'v9']);
  });

  it('are sorted by every field, both ways, on all pages', async () => {
    for (const [sort, wanted] of [
      ['name', 'abcde'],
      ['created_at', 'abcde'],
      ['company', 'bdace'],
      ['base_model', 'edcba'],
      ['parameter_count', 'eabcd'],
    ] as const)
      for (const direction of ['', '-']) {
        const path = `/models?tags=lists&sort=${direction}${sort}`;
        const whole = (await told(ask('GET', path))).items as Resource[];
        expect(await allPages(ask, path), path).to.deep.equal(whole);
        // Where the field decides, it does; what is equal by it stands in the order of ids.
        const key = (item: Resource) =>
          sort === 'name' ? item.name : (item[sort] ?? (sort === 'parameter_count' ? -1 : ''));
        const expected = [...wanted].map((letter) => whole.find((item) => item.name === `lists ${letter}`) ?? {});
        const keys = whole.map(key);
        expect(keys, path).to.deep.equal((direction === '' ? expected : expected.reverse()).map(key));
      }
  });

  it('neither repeat nor miss anything while models are added', async () => {
    for (const sort of SORTS) {
      const before = (await told(ask('GET', `/models?q=api-lists&sort=${sort}&limit=1000`))).items as Resource[];
      const seen: Resource[] = [];
      let cursor = '';
      for (let page = 0; ; page++) {
        const { items, next } = await told(ask('GET', `/models?q=api-lists&sort=${sort}&limit=2${cursor}`));
        seen.push(...items);
        if (next === null) break;
        cursor = `&cursor=${next}`;
        if (page < 2) {
          const place = `${SORTS.indexOf(sort)}-${page}`;
          const input = { name: `lists 0 ${place}`, storage_path: `api-lists/added-${place}` };
          await told(ask('POST', '/models', input), 201);
        }
      }
      const ids = seen.map(({ id }) => id);
      expect(new Set(ids).size, `${sort}: nothing twice`).to.equal(ids.length);
      expect(
        before.filter(({ id }) => !ids.includes(id)),
        `${sort}: nothing missing`,
      ).to.deep.equal([]);
    }
  });

  it('count all that match only when asked', async () => {
    const page = await told(ask('GET', '/models?tags=lists&limit=2&total=true'));
    expect([page.items.length, page.total]).to.deep.equal([2, 5]);
    expect(await told(ask('GET', '/models?tags=lists&limit=2'))).not.to.have.property('total');
    const last = await told(ask('GET', `/models?tags=lists&limit=2&total=true&cursor=${page.next}`));
    expect(last.total).to.equal(5);
  });

  it('refuse what no list can be asked', async () => {
    const queries = [
      'limit=0',
      'limit=1001',
      'limit=x',
      'sort=secret',
      'bogus=1',
      'total=maybe',
      'cursor=x',
      'parameter_count=large',
      'status=gone',
      'tags=',
      'environment=a%20b',
    ];
    for (const query of queries) {
      const places = await faultsOf(ask('GET', `/models?${query}`));
      expect(new Set(places.map((place) => place.split('.').slice(0, 2).join('.'))), query).to.deep.equal(
        new Set([`query.${query.split('=')[0]}`]),
      );
    }
    expect(await faultsOf(ask('GET', `/models?${queries.join('&')}`))).to.include.members([
      'query.limit',
      'query.bogus',
    ]);
    expect((await ask('GET', '/models?limit=1000')).status).to.equal(200);
  });

  it('say in words what a number of parameters looks like', async () => {
    for (const range of ['large', '7X', '13B..7B', '%3C0']) {
      const { detail } = await told(ask('GET', `/models?parameter_count=${range}`), 422);
      const [{ msg }] = detail as [{ msg: string }];
      expect(msg, range).to.match(/must be a number such as 7B/);
      expect(msg, range).not.to.match(/[\\^$[\]{}]/);
    }
  });

  it('refuse the cursor of another list, and of another order', async () => {
    const cursorOf = async (path: string) => (await told(ask('GET', path))).next as string;
    const ofModels = await cursorOf('/models?tags=lists&limit=1');
    const ofReleases = await cursorOf('/releases?tags=lists&limit=1');
    for (const path of [
      `/releases?cursor=${ofModels}`,
      `/deployments?cursor=${ofModels}`,
      `/artifacts?cursor=${ofReleases}`,
      `/models?cursor=${ofReleases}`,
      `/models?sort=name&cursor=${ofModels}`,
      `/models?sort=created_at&cursor=${ofModels}`,
      `/models/lists%20a/aliases?cursor=${ofModels}`,
      `/models/lists%20a/events?cursor=${ofModels}`,
    ])
      expect(await faultsOf(ask('GET', path)), path).to.deep.equal(['query.cursor']);
  });

  it('say in Link where the next page is, with all that was asked', async () => {
    const answer = await ask('GET', '/models?tags=lists&sort=-name&limit=2');
    const link = /^<(\/api\/v1\/models\?[^>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1] ?? '';
    const query = new URL(link, server.url).searchParams;
    expect([query.get('tags'), query.get('sort'), query.get('limit')]).to.deep.equal(['lists', '-name', '2']);
    expect(letters((await told(ask('GET', link))).items)).to.equal('cb');
  });
});
