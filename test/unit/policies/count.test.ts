import { expect } from 'chai';
import { recordChanges, recordsJob } from '../../../src/gc/records.js';
import { type Digest, digestOf } from '../../../src/oci/digest.js';
import { parseManifest } from '../../../src/oci/manifest.js';
import { parseTag, type RepositoryName } from '../../../src/oci/name.js';
import { countBatch, Resting } from '../../../src/policies/count.js';
import { createPolicy, removePolicy } from '../../../src/policies/policies.js';
import { listUsage, readUsage } from '../../../src/policies/usage.js';
import { readReleaseUsage, readUsageDays } from '../../../src/policies/usage-days.js';
import { matches } from '../../../src/auth/grants.js';
import { recordBy } from '../../../src/registry/changes.js';
import { FilesystemRecords } from '../../../src/storage/record-store.js';
import { ACTOR, bodyOf, repository, type Rooms, Site } from '../../support/rooms.js';

const LIMITS = { maxBytes: 1_000_000, maxDepth: 20, maxDescriptors: 100 };
const IMAGE = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const ALL = { seesAll: true, maySee: () => true };
const UNHEARD = { actor: ACTOR, observers: [] };
const NAMES = ['a/one', 'a/two', 'b/one', 'c'].map(repository);
const PATTERNS = ['**', 'a/*', 'b/one', 'nowhere/**'];

interface Counted {
  named: number;
  stored: number;
  charged: number;
  manifests: number;
  tags: number;
  blobs: number;
}

describe('the bytes of repositories', function () {
  this.timeout(120_000);
  let site: Site;
  let rooms: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    rooms = site.open({ observers: [recordBy(recordChanges)], inlineMaxBytes: 1000 });
  });
  afterEach(async () => await site.dispose());

  const count = async () => {
    const records = new FilesystemRecords(site.root);
    while (await recordsJob(rooms.database, records, 1000).run());
    while ((await countBatch(rooms.database)).more);
  };

  async function push(name: RepositoryName, bytes: Buffer): Promise<Digest> {
    const digest = digestOf('sha256', bytes);
    const id = await rooms.registry.uploads.create(name, 'sha256', ACTOR);
    const body = bodyOf([bytes], { length: bytes.length });
    await rooms.registry.uploads.finish({ id, repository: name, actor: ACTOR }, digest, body);
    return digest;
  }

  async function put(name: RepositoryName, mediaType: string, content: object, tags: readonly string[]) {
    const payload = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...content }));
    const digest = digestOf('sha256', payload);
    const manifest = parseManifest(payload, mediaType, LIMITS);
    await rooms.registry.manifests.put(
      { repository: name, digest, payload, manifest, tags: tags.map(parseTag) },
      ACTOR,
    );
    return { mediaType, digest, size: payload.length };
  }

  const image = async (
    name: RepositoryName,
    blobs: readonly (readonly [Digest, number])[],
    tags: readonly string[],
  ) => {
    const [config, ...layers] = blobs.map(([digest, size]) => ({ mediaType: 'application/x', digest, size }));
    return await put(name, IMAGE, { config, layers }, tags);
  };

  /** The same figures, computed by walking over all rows. */
  async function walk() {
    const { database } = rooms;
    type Named = { name: RepositoryName };
    const links = await database.query<Named & { digest: Digest; size: number; id: number }>(
      'select r.name, r.id, l.digest, b.size from repository_blobs l join repositories r on r.id = l.repository join blobs b on b.digest = l.digest',
    );
    const manifests = await database.query<Named & { payload: Buffer; size: number }>(
      'select r.name, m.payload, m.size from manifests m join repositories r on r.id = m.repository',
    );
    const tags = await database.query<Named>('select r.name from tags t join repositories r on r.id = t.repository');
    const homes = new Map<string, { id: number; name: string; size: number }>();
    for (const link of links) {
      const home = homes.get(link.digest);
      if (!home || link.id < home.id) homes.set(link.digest, link);
    }
    const found = new Map<string, Counted>();
    for (const name of NAMES) {
      const own = links.filter((link) => link.name === name);
      const sizes = new Map(own.map(({ digest, size }) => [digest as string, size]));
      const sum = (sizes: readonly number[]) => sizes.reduce((total, size) => total + size, 0);
      const held = manifests.filter((manifest) => manifest.name === name);
      found.set(name, {
        named: sum(
          held.map(({ payload, size }) => {
            const { config, layers = [] } = JSON.parse(payload.toString()) as {
              config?: { digest: string };
              layers?: { digest: string }[];
            };
            const named = new Set([...(config ? [config] : []), ...layers].map(({ digest }) => digest));
            return size + sum([...named].map((digest) => sizes.get(digest) ?? Number.NaN));
          }),
        ),
        stored: sum(own.map(({ size }) => size)),
        charged: sum([...homes.values()].filter((home) => home.name === name).map(({ size }) => size)),
        manifests: held.length,
        tags: tags.filter((tag) => tag.name === name).length,
        blobs: own.length,
      });
    }
    return { found, homes };
  }

  async function compare(what: string) {
    const { found, homes } = await walk();
    const { items } = await listUsage(rooms.database, ALL, 'repositories', { limit: 100 });
    const told = new Map(items.map((item) => [item.repository, item]));
    for (const name of NAMES) {
      const item = told.get(name);
      const counted = item && {
        named: item.named_bytes,
        stored: item.stored_bytes,
        charged: item.charged_bytes,
        manifests: item.manifests,
        tags: item.tags,
        blobs: item.blobs,
      };
      const nothing = { named: 0, stored: 0, charged: 0, manifests: 0, tags: 0, blobs: 0 };
      expect(counted ?? nothing, `${what}: ${name}`).to.deep.equal(found.get(name));
    }
    const { total, quotas } = await readUsage(rooms.database, ALL);
    const all = [...found.values()];
    const sum = (of: (counted: Counted) => number) => all.reduce((total, counted) => total + of(counted), 0);
    expect(total, what).to.deep.equal({
      repositories: all.filter(({ manifests, blobs }) => manifests + blobs > 0).length,
      manifests: sum(({ manifests }) => manifests),
      tags: sum(({ tags }) => tags),
      blobs: homes.size,
      named_bytes: sum(({ named }) => named),
      stored_bytes: [...homes.values()].reduce((total, { size }) => total + size, 0),
    });
    for (const { pattern, used_bytes: used } of quotas) {
      const charged = NAMES.filter((name) => matches(pattern, name)).map((name) => found.get(name)?.charged ?? 0);
      expect(used, `${what}: ${pattern}`).to.equal(charged.reduce((total, bytes) => total + bytes, 0));
    }
  }

  it('are what walking over all rows comes to, after any mixture of changes', async () => {
    const { database, registry } = rooms;
    for (const pattern of PATTERNS)
      await database.transaction((transaction) =>
        createPolicy(transaction, pattern, { quota_bytes: 1_000_000 }, 100, UNHEARD),
      );
    let seed = 20_260_501;
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((seed / 2_147_483_648) * below);
    };
    const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
    const blobs = Array.from({ length: 12 }, (_, index) => Buffer.alloc(50 + index * 157, `${index}`));
    const refused: string[] = [];
    const attempt = async (what: string, work: () => Promise<unknown>) =>
      await work().catch((error: { failure?: string }) => {
        if (error.failure === undefined) throw error;
        refused.push(what);
      });
    const rows = async (text: string, name: string) =>
      (await database.query<{ it: string }>(`${text} where r.name = $1 order by 1`, [name])).map(({ it }) => it);
    const digests = (name: string) =>
      rows('select m.digest as it from manifests m join repositories r on r.id = m.repository', name);
    const done: Record<string, number> = {};
    for (let round = 0; round < 40; round++) {
      for (let step = 0; step < 8; step++) {
        const name = pick(NAMES);
        const what = pick(['push', 'push', 'mount', 'image', 'image', 'index', 'untag', 'delete', 'drop', 'drop']);
        await attempt(what, async () => {
          if (what === 'push') await push(name, pick(blobs));
          if (what === 'mount')
            await registry.blobs.mount(name, digestOf('sha256', pick(blobs)), undefined, () => true, ACTOR);
          if (what === 'image') {
            const chosen = [...new Set([pick(blobs), pick(blobs), pick(blobs)])];
            for (const bytes of chosen) await push(name, bytes);
            const named = chosen.map((bytes) => [digestOf('sha256', bytes), bytes.length] as const);
            await image(name, named, random(2) ? [`t${random(4)}`, `u${random(4)}`] : []);
          }
          if (what === 'index') {
            const child = pick(await digests(name)) as Digest | undefined;
            if (child) await put(name, INDEX, { manifests: [{ mediaType: IMAGE, digest: child, size: 7 }] }, ['index']);
          }
          if (what === 'untag') await registry.tags.remove(name, parseTag(`t${random(4)}`), ACTOR);
          if (what === 'delete') await registry.manifests.remove(name, pick(await digests(name)) as Digest, ACTOR);
          if (what === 'drop') await registry.blobs.remove(name, digestOf('sha256', pick(blobs)), ACTOR);
          done[what] = (done[what] ?? 0) + 1;
        });
      }
      await count();
      await compare(`after round ${round}`);
    }
    for (const what of ['push', 'mount', 'image', 'index', 'untag', 'delete', 'drop'])
      expect(done[what], `${what} was done`).to.be.above(3);
    expect(refused).not.to.deep.equal([]);
  });

  it('charge a blob to the repository that was made first, and to the next one when it goes', async () => {
    const bytes = Buffer.alloc(700, 'shared');
    const digest = digestOf('sha256', bytes);
    const [first, second, third] = NAMES as [RepositoryName, RepositoryName, RepositoryName];
    for (const name of [first, second, third]) await push(name, Buffer.from(`to make ${name}`));
    const charged = async () => {
      await count();
      const { items } = await listUsage(rooms.database, ALL, 'repositories', { limit: 10 });
      return items.filter((item) => item.charged_bytes >= 700).map((item) => item.repository);
    };
    await push(third, bytes);
    expect(await charged()).to.deep.equal([third]);
    await rooms.registry.blobs.mount(second, digest, third, () => true, ACTOR);
    await push(first, bytes);
    expect(await charged()).to.deep.equal([first]);
    await rooms.registry.blobs.remove(first, digest, ACTOR);
    expect(await charged()).to.deep.equal([second]);
    await rooms.registry.blobs.remove(third, digest, ACTOR);
    expect(await charged()).to.deep.equal([second]);
    await rooms.registry.blobs.remove(second, digest, ACTOR);
    expect(await charged()).to.deep.equal([]);
  });

  it('count in a quota that is made what is there, and in none that is gone', async () => {
    const [name] = NAMES as [RepositoryName];
    await push(name, Buffer.alloc(300));
    await count();
    const { database } = rooms;
    const make = (pattern: string) =>
      database.transaction((transaction) => createPolicy(transaction, pattern, { quota_bytes: 5 }, 100, UNHEARD));
    const made = await make('a/**');
    await make('b/**');
    expect((await readUsage(database, ALL)).quotas).to.deep.equal([
      { pattern: 'a/**', limit_bytes: 5, used_bytes: 300 },
      { pattern: 'b/**', limit_bytes: 5, used_bytes: 0 },
    ]);
    await database.transaction((transaction) =>
      removePolicy(transaction, made.id, { announced: UNHEARD, expect: () => undefined }),
    );
    expect((await readUsage(database, ALL)).quotas.map(({ pattern }) => pattern)).to.deep.equal(['b/**']);
    const rows = await database.query('select from quota_usage');
    expect(rows).to.have.length(1);
  });

  it('say how old they are: as old as the oldest change that is not counted', async () => {
    const { database } = rooms;
    const age = async () => Date.now() - (await readUsage(database, ALL)).as_of.getTime();
    await push(NAMES[0] as RepositoryName, Buffer.from('x'));
    const change = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await age()).to.be.within(250, 5_000);
    // Written beside the bytes, but not counted.
    await recordsJob(database, new FilesystemRecords(site.root), 1000).run();
    expect((await readUsage(database, ALL)).as_of.getTime()).to.be.at.most(change);
    await count();
    expect(await age()).to.be.below(250);
  });

  it('are counted by two at once as by one', async () => {
    const other = site.open();
    for (let index = 0; index < 60; index++)
      await push(repository(`many/r${index}`), Buffer.alloc(100 + (index % 7), `${index % 7}`));
    const records = new FilesystemRecords(site.root);
    while (await recordsJob(rooms.database, records, 1000).run());
    await Promise.all(
      [rooms, other].map(async ({ database }) => {
        while ((await countBatch(database)).more);
      }),
    );
    await count();
    const { total } = await readUsage(rooms.database, ALL);
    expect(total).to.include({ repositories: 60, blobs: 7, stored_bytes: 7 * 100 + 21 });
  });

  it('of a repository whose count takes long are counted after a rest, and those of others meanwhile', async () => {
    const resting = new Resting();
    for (const name of ['a/one', 'c'] as const) await push(repository(name), Buffer.from(name));
    await count();
    const [large] = await rooms.database.query<{ id: number }>(`select id from repositories where name = 'a/one'`);
    const { id = 0 } = large ?? {};
    resting.add([{ id, rows: 10_000 }], 199);
    resting.add([{ id, rows: 9_999 }], 1_000);
    expect(resting.now(performance.now()), 'quick, or small').to.deep.equal([]);
    resting.add([{ id, rows: 10_000 }], 1_000);
    const over = performance.now() + 9_000;
    expect(resting.now(over - 1_000)).to.deep.equal([id]);
    for (const name of ['a/one', 'c'] as const) await push(repository(name), Buffer.from(`more of ${name}`));
    const records = new FilesystemRecords(site.root);
    while (await recordsJob(rooms.database, records, 1000).run());
    while ((await countBatch(rooms.database, resting.now(over - 1_000))).more);
    const blobs = async () => {
      const { items } = await listUsage(rooms.database, ALL, 'repositories', { limit: 100 });
      return Object.fromEntries(items.map((item) => [item.repository, item.blobs]));
    };
    expect(await blobs()).to.deep.equal({ 'a/one': 1, c: 2 });
    expect(resting.now(over + 1)).to.deep.equal([]);
    while ((await countBatch(rooms.database)).more);
    expect(await blobs()).to.deep.equal({ 'a/one': 2, c: 2 });
  });

  it('are kept day by day, and stand until they change', async () => {
    const { database } = rooms;
    const [name, other] = NAMES as [RepositoryName, RepositoryName];
    await push(name, Buffer.alloc(100));
    await count();
    await database.query(`update usage_days set day = day - 3`);
    await database.query(`update repository_usage_days set day = day - 3`);
    await push(other, Buffer.alloc(50));
    await count();
    const today = new Date().toISOString().slice(0, 10);
    const since = new Date(Date.now() - 4 * 86_400_000).toISOString().slice(0, 10);
    const stored = async (of?: string) =>
      (await readUsageDays(database, since, today, of)).map((day) => day.stored_bytes);
    expect(await stored()).to.deep.equal([100, 100, 100, 150]);
    expect(await stored(name)).to.deep.equal([100, 100, 100, 100]);
    expect(await stored(other)).to.deep.equal([50]);
    expect(await stored('nobody/knows')).to.deep.equal([]);
  });

  it('of one release are those of its manifest, and those that it alone holds', async () => {
    const [name, other] = NAMES as [RepositoryName, RepositoryName];
    const sized = async (at: RepositoryName, size: number) =>
      [await push(at, Buffer.alloc(size, `${size}`)), size] as const;
    const [config, shared, own, elsewhere] = [
      await sized(name, 10),
      await sized(name, 100),
      await sized(name, 1_000),
      await sized(name, 10_000),
    ];
    await sized(other, 10_000);
    const one = await image(name, [config, shared, own, elsewhere], ['v1']);
    await image(name, [config, shared], ['v2']);
    const index = await put(name, INDEX, { manifests: [one, one] }, ['v3']);
    const usage = (digest: string) => readReleaseUsage(rooms.database, name, digest);
    expect(await usage(one.digest)).to.deep.equal({
      named_bytes: 11_110 + one.size,
      alone_bytes: 1_000,
      pulls: 0,
      last_pulled_at: null,
    });
    expect(await usage(index.digest)).to.deep.equal({
      named_bytes: 11_110 + one.size + index.size,
      alone_bytes: 1_000,
      pulls: 0,
      last_pulled_at: null,
    });
  });
});
