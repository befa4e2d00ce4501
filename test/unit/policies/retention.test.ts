import { expect } from 'chai';
import fc from 'fast-check';
import { createDeployment } from '../../../src/metadata/deployment-changes.js';
import { changeModel } from '../../../src/metadata/model-changes.js';
import { changeRelease } from '../../../src/metadata/release-changes.js';
import { readPolicies } from '../../../src/policies/policies.js';
import type { Keep, KeptBy } from '../../../src/policies/retention.js';
import { judgeReleases, ruledModels } from '../../../src/policies/retention-judge.js';
import { previewRetention } from '../../../src/policies/retention-preview.js';
import { age, JUDGE, knowPulls, pulled, retentionOf, say, tagsOf } from '../../support/retention.js';
import { CALLER, ModelScene, NAME } from '../metadata/model-scene.js';

describe('retention', function () {
  this.timeout(60_000);
  let scene: ModelScene;

  beforeEach(async () => {
    scene = await ModelScene.make();
  });
  afterEach(async () => await scene.dispose());

  /** Releases whose tags were set so many days ago. */
  const releases = async (tags: Readonly<Record<string, number>>) => {
    for (const [tag, days] of Object.entries(tags)) {
      await scene.run(scene.push(await scene.image(tag), tag));
      await age(scene.database, tag, days);
    }
  };
  const deploy = async (tag: string, environment: string) => {
    const { id } = (await scene.release(tag)) ?? {};
    const input = { release_id: id ?? '', environment };
    return await scene.run((transaction) => createDeployment(transaction, CALLER, input));
  };
  const round = async () => await retentionOf(scene.database).round();
  const faults = async () => expect(await scene.faults()).to.deep.equal([]);

  it('keeps everything where nobody says anything', async () => {
    await releases({ 'v1-fp16': 900, 'v2-fp16': 800 });
    expect(await round()).to.equal(0);
    expect(await tagsOf(scene.database)).to.have.length(2);
  });

  it('keeps the newest of each quantization by the order of versions, and takes every spelling of the others', async () => {
    await releases({
      'v1-fp16': 30,
      'v1.9-fp16': 2,
      'v1.10-fp16': 20,
      'v1.10-int8': 40,
      'v1.2-int8': 30,
      v2: 9,
      v0: 9,
    });
    await scene.run(scene.push(await scene.image('v1-fp16'), 'V1-FP16', 'v1_fp16'));
    for (const tag of ['V1-FP16', 'v1_fp16']) await age(scene.database, tag, 50);
    await say(scene.database, 'crossing/*', { retention: { last: 1 } });
    expect(await round()).to.equal(4);
    expect(await tagsOf(scene.database)).to.deep.equal(['v1.10-fp16', 'v1.10-int8', 'v2']);
    expect(await round(), 'once more').to.equal(0);
    await faults();
  });

  it('writes down the rule by which each tag went', async () => {
    await releases({ 'v1-fp16': 30, 'v2-fp16': 20 });
    await pulled(scene.database, 'v1-fp16', 9);
    const { id } = (await scene.release('v1-fp16')) ?? {};
    const policy_id = await say(scene.database, '**', { retention: { last: 1, pulled_within_days: 7 } });
    await round();
    const rows = await scene.database.query<{ tag: string; cause: Record<string, unknown> }>(
      `select resource_id as tag, details->'cause' as cause from audit_logs where actor = 'retention' and action = 'tag.delete'`,
    );
    expect(rows.map(({ tag }) => tag)).to.deep.equal(['v1-fp16']);
    const { last_pulled_at, ...cause } = rows[0]?.cause ?? {};
    expect(cause).to.deep.equal({
      policy_id,
      pattern: '**',
      retention: { last: 1, pulled_within_days: 7 },
      release_id: id,
    });
    expect(Date.now() - Date.parse(last_pulled_at as string)).to.be.within(9 * 86_400_000, 9.1 * 86_400_000);
  });

  it('leaves what is new, live, protected, or named by an alias, and what is immutable', async () => {
    await releases({ v1: 0.9, v2: 2, v3: 2, v4: 2, v5: 2, v6: 2, v9: 2 });
    for (const tag of ['v2', 'v3', 'v4']) await deploy(tag, 'prod');
    await scene.run(scene.push(await scene.image('v5'), 'stable', 'latest'));
    await say(scene.database, '**', { retention: { last: 1 } });
    await say(scene.database, 'crossing/model', { protected_tags: ['*6'] });
    expect(await round()).to.equal(1);
    // v2 was superseded by v3, which a rollback from v4 leads to.
    expect(await tagsOf(scene.database)).to.deep.equal(['latest', 'stable', 'v1', 'v3', 'v4', 'v5', 'v6', 'v9']);
    expect(await scene.release('v2')).to.include({ status: 'withdrawn' });
    await scene.run((transaction) => changeModel(transaction, CALLER, 'crossing', { immutable: true }, 'merge'));
    await scene.database.query(`update tags set updated_at = now() - interval '99 days'`);
    await scene.database.query(`update deployments set status = 'retired'`);
    expect(await round(), 'immutable').to.equal(0);
    await faults();
  });

  it('counts no release as one of the last that is withdrawn, and none as an alias whose tag is a word', async () => {
    await releases({ 'v1-fp16': 30, 'v2-fp16': 30, 'v3-fp16': 30, fp8: 30, 'sha256-0123.sig': 30 });
    const { id = '' } = (await scene.release('v3-fp16')) ?? {};
    await scene.run((transaction) => changeRelease(transaction, CALLER, id, { status: 'withdrawn' }, 'merge'));
    await say(scene.database, '**', { retention: { last: 1 } });
    const { items } = await previewRetention(scene.database, { all: true }, { limit: 100 }, JUDGE);
    expect(items.map(({ tag, kept_by }) => [tag, kept_by])).to.deep.equal([
      ['fp8', ['last']],
      ['v1-fp16', []],
      ['v2-fp16', ['last']],
      ['v3-fp16', []],
    ]);
  });

  it('is said by the most specific policy, and before all by the model', async () => {
    await releases({ v1: 30, v2: 30, v3: 30 });
    await say(scene.database, '**', { retention: { last: 1 } });
    await say(scene.database, 'crossing/**', { retention: { keep: true } });
    await say(scene.database, 'crossing/model', { untagged: { days: 1 } });
    expect(await round()).to.equal(0);
    const model = async (retention: Keep | { keep: true } | null) =>
      await scene.run((transaction) =>
        changeModel(transaction, CALLER, 'crossing', { retention: retention && { ...retention } }, 'merge'),
      );
    await model({ last: 2 });
    expect(await round()).to.equal(1);
    expect(await tagsOf(scene.database)).to.deep.equal(['v2', 'v3']);
    const [row] = await scene.database.query<{ details: { cause: Record<string, unknown> } }>(
      `select details from audit_logs where actor = 'retention'`,
    );
    expect(row?.details.cause).to.include({ model_id: scene.model.id });
    await say(scene.database, '*/model', { retention: { last: 1 } });
    await model({ keep: true });
    expect(await round(), 'the model keeps everything').to.equal(0);
  });

  it('takes what was not pulled for long only where pulls are known for as long', async () => {
    await releases({ v1: 90, v2: 90, v3: 5 });
    await pulled(scene.database, 'v1', 10);
    await say(scene.database, '**', { retention: { pulled_within_days: 30 } });
    await knowPulls(scene.database, 29);
    expect(await round(), 'known since 29 days').to.equal(0);
    await knowPulls(scene.database, 31);
    expect(await round()).to.equal(1);
    expect(await tagsOf(scene.database)).to.deep.equal(['v1', 'v3']);
  });

  it('keeps by each of its rules what it says, whatever is drawn', async () => {
    interface Drawn {
      readonly version: number;
      readonly quantization: string;
      readonly days: number;
      readonly pulledDays: number | null;
      readonly deployed: boolean;
      readonly withdrawn: boolean;
    }
    const drawn: Drawn[] = fc.sample(
      fc.record({
        version: fc.integer({ min: 1, max: 12 }),
        quantization: fc.constantFrom('fp16', 'int8', 'q4_k_m'),
        days: fc.integer({ min: 2, max: 60 }),
        pulledDays: fc.option(fc.integer({ min: 0, max: 60 })),
        deployed: fc.boolean(),
        withdrawn: fc.boolean(),
      }),
      { numRuns: 40, seed: 5 },
    );
    const made = new Map(drawn.map((one) => [`v${one.version}-${one.quantization}`, one]));
    for (const [tag, one] of made) {
      await releases({ [tag]: one.days - 0.5 });
      if (one.pulledDays !== null) await pulled(scene.database, tag, one.pulledDays + 0.5);
      if (one.deployed) await deploy(tag, 'prod');
      const { id = '' } = (await scene.release(tag)) ?? {};
      if (one.withdrawn)
        await scene.run((transaction) => changeRelease(transaction, CALLER, id, { status: 'withdrawn' }, 'merge'));
    }
    await scene.database.query(`update deployments set status = 'retired'`);
    const expected = (tag: string, one: Drawn, keep: Keep): KeptBy[] => {
      const better = [...made.values()].filter(
        (other) => other.quantization === one.quantization && !other.withdrawn && other.version > one.version,
      );
      const used = Math.min(one.days - 0.5, (one.pulledDays ?? Number.POSITIVE_INFINITY) + 0.5);
      const checks: [KeptBy, boolean][] = [
        ['last', keep.last !== undefined && !one.withdrawn && better.length < keep.last],
        ['young', keep.younger_than_days !== undefined && one.days - 0.5 < keep.younger_than_days],
        ['pulled', keep.pulled_within_days !== undefined && used < keep.pulled_within_days],
        ['deployed', keep.deployed === true && one.deployed],
        ['tag', (keep.tags ?? []).some((pattern) => tag.endsWith(pattern.slice(1)))],
      ];
      return checks.filter(([, holds]) => holds).map(([by]) => by);
    };
    const rules = fc.sample(
      fc.record(
        {
          last: fc.integer({ min: 1, max: 5 }),
          younger_than_days: fc.integer({ min: 1, max: 60 }),
          pulled_within_days: fc.integer({ min: 1, max: 60 }),
          deployed: fc.constant(true as const),
          tags: fc.array(fc.constantFrom('*-fp16', '*2-int8', '*_m'), { minLength: 1, maxLength: 2 }),
        },
        { requiredKeys: [] },
      ),
      { numRuns: 60, seed: 6 },
    );
    const policies = await readPolicies(scene.database);
    for (const keep of rules) {
      const { models } = await ruledModels(scene.database, policies.withRetention('**', keep), { from: 0, limit: 10 });
      const judged = await judgeReleases(scene.database, policies, models, JUDGE);
      expect(judged).to.have.length(made.size);
      for (const { tag, kept_by } of judged)
        expect(kept_by, `${tag} under ${JSON.stringify(keep)}`).to.deep.equal(
          expected(tag, made.get(tag) as Drawn, keep),
        );
    }
  });

  it('previews in pages exactly what goes then', async () => {
    await releases(Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`v${n + 1}`, 10])));
    const query = { proposed: { pattern: 'crossing/*', retention: { last: 4, tags: ['v1*'] } }, all: false };
    const previewed: string[] = [];
    for (let cursor: string | undefined; ; ) {
      const page = await previewRetention(scene.database, query, { limit: 4, cursor }, JUDGE);
      expect(page.items.length).to.be.at.most(4);
      expect(page.items.every(({ goes, repository }) => goes && repository === NAME)).to.equal(true);
      previewed.push(...page.items.map(({ tag }) => tag));
      if (page.next === null) break;
      cursor = page.next;
    }
    expect(await round(), 'nothing is said yet').to.equal(0);
    await say(scene.database, 'crossing/*', { retention: { last: 4, tags: ['v1*'] } });
    const before = await tagsOf(scene.database);
    expect(await round())
      .to.equal(previewed.length)
      .and.to.equal(15);
    const after = await tagsOf(scene.database);
    expect(previewed).to.deep.equal(before.filter((tag) => !after.includes(tag)));
  });
});
