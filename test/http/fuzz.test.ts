import { expect } from 'chai';
import { allServe } from '../faults/support/processes.js';
import { expectNothingLeft } from '../fuzz/aftermath.js';
import { FUZZ_ENVIRONMENT, fuzz, newCounts } from '../fuzz/fuzz.js';
import { type FuzzRequest, requestOf } from '../fuzz/requests.js';
import { readRoutes, type Route } from '../fuzz/routes.js';
import { startServer, type TestServer } from '../support/server.js';

describe('fuzz of every route', () => {
  let server: TestServer;
  let routes: Route[];
  let workers: number[];
  before(async () => {
    routes = await readRoutes();
    server = await startServer({ environment: FUZZ_ENVIRONMENT });
    await allServe(server);
    workers = await server.workers();
  });
  after(async () => {
    await server?.dispose();
  });

  it('knows the routes of all doors', () => {
    const paths = routes.map(({ method, path }) => `${method} ${path}`);
    expect(paths).to.include.members([
      'GET /v2{/}',
      'PATCH /v2/*name/blobs/uploads/:upload{/}',
      'POST /v2/token',
      'PATCH /api/v1/api-keys/:id',
    ]);
    expect(new Set(paths).size).to.equal(paths.length).and.be.at.least(17);
  });

  it('makes the same request of the same seed and number, and others of others', () => {
    const one = (seed: number, number: number): FuzzRequest => requestOf(routes, seed, number);
    const text = (request: FuzzRequest) => request.head + request.body.toString('hex');
    for (let number = 0; number < 50; number++) expect(one(1, number)).to.deep.equal(one(1, number));
    const heads = new Set(
      [1, 2, 3].flatMap((seed) => Array.from({ length: 100 }, (_, number) => text(one(seed, number)))),
    );
    expect(heads.size).to.be.greaterThan(290);
  });

  const runs: [what: string, seed: number][] = [
    ['a seed that is always the same', 20261123],
    ['a seed that is new each time', Math.floor(Math.random() * 2 ** 31)],
  ];
  for (const [what, seed] of runs) {
    it(`finds no 5xx, hang or leak with ${what}`, async function () {
      this.timeout(300_000);
      const counts = newCounts();
      await fuzz({ server, routes, seed, count: 3000, counts });
      expect(counts.faults.join('\n\n'), `seed ${seed}`).to.equal('');
      expect([...counts.byRoute.keys()].length, 'each route was tried').to.equal(routes.length);
      const statuses = new Set([...counts.byRoute.values()].flatMap((byStatus) => [...byStatus.keys()]));
      expect([...statuses]).to.include.members([200, 201, 202, 204, 400, 401, 404, 405]);
      if (seed !== runs[0]?.[1]) console.log(`      seed ${seed}: ${counts.requests} requests`);
    });
  }

  it('leaves no connection, session, file or error in the log', async function () {
    this.timeout(240_000);
    await expectNothingLeft(server, workers);
  });
});
