// Long lists: tags, repositories, referrers.
import { Connection } from '../support/connection.mjs';
import { expectStatus, pushBlob, pushManifest } from '../support/load.mjs';
import { DISTRIBUTION_NAME, DOCKER_REGISTRY_NAME } from '../support/peers.mjs';
import { median } from '../support/table.mjs';

const TAGS = 10_000;
const REPOSITORIES = 1000;
const REFERRERS = 1000;
const PAGE = 100;
const LARGE_PAGE = 1000;
const TIMES = 7;
const PUSHERS = 8;

const padded = (number) => String(number).padStart(6, '0');
const tagOf = (index) => `t-${padded(index)}`;
const repositoryOf = (index) => `bench/list-${padded(index)}`;

/** Does something `count` times over some connections. */
async function inParallel(port, count, work) {
  let next = 0;
  await Promise.all(
    Array.from({ length: PUSHERS }, async () => {
      const connection = new Connection(port);
      for (let index = next++; index < count; index = next++) await work(connection, index);
      connection.close();
    }),
  );
}

/** Reads a list to its end. @returns how many entries of the first list in each answer there were */
async function readAll(connection, path, headers) {
  let count = 0;
  for (let next = path; next; ) {
    const answer = await expectStatus(connection, 200, { method: 'GET', path: next, headers });
    const { tags, repositories, manifests } = JSON.parse(answer.body);
    count += (tags ?? repositories ?? manifests).length;
    next = /<(?:https?:\/\/[^/]+)?([^>]+)>; *rel="next"/.exec(answer.field('link') ?? '')?.[1];
  }
  return count;
}

export default {
  name: 'lists',
  title: 'Lists',
  about:
    `All of ${TAGS} tags in pages of ${LARGE_PAGE}, and without asking for pages; a page of ${PAGE} from the ` +
    `middle; the catalog of ${REPOSITORIES} repositories and more, and a page of ${PAGE} from its middle; all ` +
    `referrers of a subject with ${REFERRERS}, which the peers don't have. The median of ${TIMES}. ` +
    'docker-registry answers with all tags at once, whatever it is asked.',
  places: ['disk', 'memory'],
  who: ['ours', 'keyed', 'distribution', 'dockerRegistry'],
  keeps: true,
  figures: {
    'all tags in pages': { unit: 'ms', less: true, zot: { disk: 175 / 102, memory: 175 / 102 } },
    'all tags, unasked for pages': { unit: 'ms', less: true },
    'a page of tags': { unit: 'ms', less: true, zot: { disk: 15.8 / 6.1, memory: 15.8 / 6.1 } },
    catalog: { unit: 'ms', less: true },
    'a page of it': { unit: 'ms', less: true, zot: { disk: 13.6 / 2, memory: 13.6 / 2 } },
    referrers: { unit: 'ms', less: true },
    'PUT of a manifest under a new tag': { unit: '1/s', zot: { disk: 61 / 754, memory: 61 / 754 } },
    memory: { unit: 'MiB', less: true },
  },

  async prepare({ registry, repository }) {
    const { port, basic: headers } = registry;
    const connection = new Connection(port);
    const config = await pushBlob(
      connection,
      { repository, headers },
      Buffer.from('{}'),
      'application/vnd.oci.empty.v1+json',
    );
    const manifest = { config, layers: [config] };
    const begun = performance.now();
    await inParallel(port, TAGS, (one, index) => pushManifest(one, { repository, headers }, manifest, tagOf(index)));
    const perSecond = (TAGS * 1000) / (performance.now() - begun);
    const subject = await pushManifest(connection, { repository, headers }, manifest, tagOf(0));
    connection.close();
    await inParallel(port, REPOSITORIES, async (one, index) => {
      const path = `/v2/${repositoryOf(index)}/blobs/uploads/?mount=${config.digest}&from=${repository}`;
      await expectStatus(one, 201, { method: 'POST', path, headers });
      await pushManifest(one, { repository: repositoryOf(index), headers }, manifest, 'latest');
    });
    if ([DISTRIBUTION_NAME, DOCKER_REGISTRY_NAME].includes(registry.name)) return { perSecond };
    await inParallel(port, REFERRERS, (one, index) =>
      pushManifest(one, { repository, headers }, { ...manifest, subject, annotations: { index: String(index) } }),
    );
    return { perSecond, subject };
  },

  async measure({ at, prepared, round, watch }) {
    const { repository, headers } = at;
    const connection = new Connection(at.port);
    const time = async (path, atLeast) => {
      const spent = [];
      for (let run = 0; run <= TIMES; run++) {
        const begun = performance.now();
        const count = await readAll(connection, path, headers);
        if (count < atLeast) throw new Error(`${path}: ${count} entries`);
        // The first one opens the connection.
        if (run > 0) spent.push(performance.now() - begun);
      }
      return median(spent);
    };
    /** One page, whatever follows. */
    const page = async (path) => {
      const spent = [];
      for (let run = 0; run < TIMES; run++) {
        const begun = performance.now();
        await expectStatus(connection, 200, { method: 'GET', path, headers });
        spent.push(performance.now() - begun);
      }
      return median(spent);
    };
    const { result, used } = await watch(async () => ({
      'all tags in pages': await time(`/v2/${repository}/tags/list?n=${LARGE_PAGE}`, TAGS),
      'all tags, unasked for pages': await time(`/v2/${repository}/tags/list`, TAGS),
      'a page of tags': await page(`/v2/${repository}/tags/list?n=${PAGE}&last=${tagOf(TAGS / 2)}`),
      catalog: await time(`/v2/_catalog?n=${LARGE_PAGE}`, REPOSITORIES),
      'a page of it': await page(`/v2/_catalog?n=${PAGE}&last=${repositoryOf(REPOSITORIES / 2)}`),
      referrers: prepared.subject && (await time(`/v2/${repository}/referrers/${prepared.subject.digest}`, REFERRERS)),
    }));
    connection.close();
    return {
      ...result,
      'PUT of a manifest under a new tag': round === 1 ? prepared.perSecond : undefined,
      memory: used.peak,
    };
  },
};
