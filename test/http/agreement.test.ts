import { expect } from 'chai';
import type { Database } from '../../src/database/connect.js';
import { checkAll } from '../../src/metadata/check.js';
import { runCommand } from '../faults/support/command.js';
import { api } from '../support/api.js';
import { onDatabase } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import { bytesOf, descriptorOf, IMAGE, imageOf, pushBlob, pushConfig } from './content.js';

const WORKERS = 20;
/** Of walks, at most. */
const ROUNDS = 8;
const TURNS = 15;
/** Spellings of two releases, and an alias. */
const TAGS = ['v1.0-fp16', 'V1.0_FP16', 'v1.0.fp16', 'v1.0-int8', 'v1.0_INT8', 'latest'];

/** A sequence that is the same for the same seed. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

async function faultsOf(server: TestServer): Promise<string[]> {
  return await onDatabase(server, async (database) => {
    const faults: string[] = [];
    for await (const checked of checkAll(database)) faults.push(...checked.faults);
    return faults;
  });
}

describe('tags and releases', () => {
  let server: TestServer;

  before(async function () {
    this.timeout(60_000);
    server = await startServer();
  });
  after(() => server?.dispose());

  /** Manifests that can be put under any tag: model-like ones, and one that refers to the first. */
  async function manifestsOf(repository: string) {
    const config = await pushConfig(server, repository);
    const made: Buffer[] = [];
    for (let nth = 0; nth < 4; nth++) {
      const bytes = bytesOf(`agreement ${nth}`, 100 + nth);
      await pushBlob(server, repository, bytes);
      const annotations = { 'org.opencontainers.image.title': `model-${nth}.safetensors` };
      made.push(imageOf(config, [{ ...descriptorOf(bytes, 'application/octet-stream'), annotations } as never]));
    }
    const [first = Buffer.alloc(0)] = made;
    made.push(imageOf(config, [], { artifactType: 'application/x-note', subject: descriptorOf(first, IMAGE) }));
    return made;
  }

  async function put(repository: string, tag: string, manifest: Buffer): Promise<number> {
    const path = `/v2/${repository}/manifests/${tag}`;
    const answer = await server.request('PUT', path, { body: manifest, headers: { 'content-type': IMAGE } });
    await answer.arrayBuffer();
    return answer.status;
  }

  it('agree after 20 at once pushed, moved, edited, deployed and deleted the same ones', async function () {
    this.timeout(180_000);
    const repository = 'agreement/model';
    const manifests = await manifestsOf(repository);
    const seen = new Map<string, number>();
    const note = (what: string, status: number) => {
      const key = `${what} ${status}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
      expect(status, what).to.be.below(500);
    };
    const releases = async () => {
      const { body } = await api<{ items: { id: string; tag: string }[] }>(server, 'GET', '/releases?limit=100');
      return body.items;
    };
    const wanted = ['push 201', 'delete tag 202', 'move 200', 'edit 200', 'deploy 201', 'delete release 204'];
    const walk = (round: number) =>
      Array.from({ length: WORKERS }, async (_, worker) => {
        const roll = dice(round * WORKERS + worker + 1);
        for (let turn = 0; turn < TURNS; turn++) {
          const tag = TAGS[roll(TAGS.length)] ?? '';
          const manifest = manifests[roll(manifests.length)] ?? Buffer.alloc(0);
          const found = await releases();
          const release = found[roll(Math.max(found.length, 1))];
          switch (roll(8)) {
            case 0:
              note('delete tag', (await server.request('DELETE', `/v2/${repository}/manifests/${tag}`)).status);
              break;
            case 1: {
              const digest = descriptorOf(manifest, IMAGE).digest;
              note('delete manifest', (await server.request('DELETE', `/v2/${repository}/manifests/${digest}`)).status);
              break;
            }
            case 2: {
              const body = { release_notes: `by ${worker}` };
              if (release) note('edit', (await api(server, 'PATCH', `/releases/${release.id}`, { body })).status);
              break;
            }
            case 3: {
              const body = { digest: descriptorOf(manifest, IMAGE).digest };
              if (release) note('move', (await api(server, 'PATCH', `/releases/${release.id}`, { body })).status);
              break;
            }
            case 4: {
              const body = { release_id: release?.id, environment: `e${roll(2)}` };
              const made = release && (await api<{ id: string }>(server, 'POST', '/deployments', { body }));
              if (made) note('deploy', made.status);
              if (made?.status === 201 && roll(2) === 0)
                note('retire', (await api(server, 'DELETE', `/deployments/${made.body.id}`)).status);
              break;
            }
            case 5:
              if (release) note('delete release', (await api(server, 'DELETE', `/releases/${release.id}`)).status);
              break;
            default:
              note('push', await put(repository, tag, manifest));
          }
        }
      });
    // What is deployed stands in the way of some changes: on until each kind of change was made at least once.
    for (let round = 0; round < ROUNDS && (round === 0 || wanted.some((made) => !seen.has(made))); round++) {
      await Promise.all(walk(round));
      expect(await faultsOf(server)).to.deep.equal([]);
    }
    expect([...seen.keys()], JSON.stringify([...seen])).to.include.members(wanted);
  });

  it('agree after 20 made the same model by their first pushes', async function () {
    this.timeout(60_000);
    const repository = 'agreement/first';
    const manifests = await manifestsOf(repository);
    const pushed = await Promise.all(
      Array.from({ length: WORKERS }, (_, nth) =>
        put(repository, `v${nth}.0-${nth % 2 ? 'fp16' : 'int8'}`, manifests[nth % 4] ?? Buffer.alloc(0)),
      ),
    );
    expect(pushed).to.deep.equal(Array.from({ length: WORKERS }, () => 201));
    const model = await api<{ id: string }>(server, 'GET', `/models/${encodeURIComponent(repository)}`);
    const { body } = await api(server, 'GET', `/models/${model.body.id}/releases?total=true`);
    expect(body.total).to.equal(WORKERS);
    expect(await faultsOf(server)).to.deep.equal([]);
  });

  it('agree after a model was made over tags that were being pushed', async function () {
    this.timeout(60_000);
    const repository = 'agreement/over';
    const config = await pushConfig(server, repository);
    // Nothing in it looks like a model.
    const image = imageOf(config, []);
    const pushes = Array.from({ length: WORKERS }, (_, nth) => put(repository, `v${nth}.0`, image));
    const made = api(server, 'POST', '/models', { body: { name: 'over', storage_path: repository } });
    expect((await made).status).to.equal(201);
    expect(await Promise.all(pushes)).to.deep.equal(Array.from({ length: WORKERS }, () => 201));
    const { body } = await api(server, 'GET', '/models/over/releases?total=true');
    expect(body.total).to.equal(WORKERS);
    expect(await faultsOf(server)).to.deep.equal([]);
  });

  describe('that do not agree', () => {
    /** Breaks something behind everybody's back, looks, and mends it. */
    async function broken(harm: string, mend: string): Promise<string[]> {
      const run = async (database: Database, statement: string) => void (await database.query(statement));
      await onDatabase(server, (database) => run(database, harm));
      try {
        return await faultsOf(server);
      } finally {
        await onDatabase(server, (database) => run(database, mend));
      }
    }
    const model = `(select id from models where name = 'over')`;

    before(async () => {
      const { body } = await api<{ items: { id: string }[] }>(server, 'GET', '/models/over/releases?version=v3.0');
      const deployment = { release_id: body.items[0]?.id, environment: 'prod' };
      expect((await api(server, 'POST', '/deployments', { body: deployment })).status).to.equal(201);
    });

    for (const [what, harm, mend, fault] of [
      [
        'a release without its tag',
        `update releases set tag = 'v99.0', version = 'v99.0' where model_id = ${model} and tag = 'v1.0'`,
        `update releases set tag = 'v1.0', version = 'v1.0' where model_id = ${model} and tag = 'v99.0'`,
        /v99\.0 has no tag/,
      ],
      [
        'a release in the wrong place of the order',
        `update releases set version_order = 'x' || version_order where model_id = ${model} and tag = 'v2.0'`,
        `update releases set version_order = substr(version_order, 2) where model_id = ${model} and tag = 'v2.0'`,
        /v2\.0: its place in the order/,
      ],
      [
        'a release of another digest than its tag',
        `update releases set digest = 'sha256:0' where model_id = ${model} and tag = 'v4.0'`,
        `update releases r set digest = t.digest from tags t join models m on m.repository_id = t.repository
          where r.model_id = m.id and m.id = ${model} and r.tag = 'v4.0' and t.name = 'v4.0'`,
        /v4\.0 is sha256:0/,
      ],
      [
        'a deployment of what is gone',
        `update deployments set digest = 'sha256:0' where model_id = ${model}`,
        `update deployments d set digest = r.digest from releases r where r.id = d.release_id and d.model_id = ${model}`,
        /manifest sha256:0 is gone/,
      ],
      [
        'a blob of another length',
        `update blobs set size = size + 1 where size = 101`,
        `update blobs set size = size - 1 where size = 102 and digest in
           (select b.digest from blobs b join segments s on s.body = b.body where s.length = 101)`,
        /102 bytes, its segments have 101/,
      ],
    ] as const) {
      it(`are found: ${what}`, async () => {
        const faults = await broken(harm, mend);
        expect(
          faults.some((text) => fault.test(text)),
          faults.join('\n'),
        ).to.equal(true);
        expect(await faultsOf(server)).to.deep.equal([]);
      });
    }

    it('fail the command weighhouse check, which tells where', async function () {
      this.timeout(60_000);
      const { REGISTRY_DATABASE_URL = '', REGISTRY_DATA_DIR = '' } = server.environment;
      const environment = { REGISTRY_DATABASE_URL, REGISTRY_DATA_DIR };
      const good = await runCommand('check', environment);
      expect(good.code, good.said).to.equal(0);
      expect(good.said).to.match(/^ok {6}releases are what the tags say$/m);
      await onDatabase(server, (database) =>
        database.query(`update releases set version_order = 'x' where model_id = ${model} and tag = 'v5.0'`),
      );
      const bad = await runCommand('check', environment);
      expect(bad.code).to.equal(1);
      expect(bad.said).to.match(/^BROKEN {2}releases are what the tags say\n +over: release v5\.0/m);
    });
  });
});
