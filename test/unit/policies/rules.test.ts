import { expect } from 'chai';
import fc from 'fast-check';
import { matches } from '../../../src/auth/grants.js';
import { isFull } from '../../../src/policies/quotas.js';
import { Policies, type Policy, regexOf } from '../../../src/policies/rules.js';
import { connect, type Database } from '../../../src/database/connect.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const policy = (pattern: string, said: Partial<Policy> = {}): Policy => ({
  id: pattern,
  pattern,
  untagged: null,
  retention: null,
  protectedTags: [],
  quotaBytes: null,
  usedBytes: 0,
  ...said,
});

describe('what policies come to', () => {
  it('is for untagged manifests what the most specific says that says anything', () => {
    const rules = new Policies([
      policy('**', { untagged: { days: 30 } }),
      policy('team/*', { untagged: { days: 7 } }),
      policy('team/m*', { untagged: { keep: true } }),
      policy('team/quiet-model'),
      policy('team/x', { untagged: { days: 0 } }),
    ]);
    for (const [repository, untagged] of [
      ['other', { days: 30 }],
      ['team/a', { days: 7 }],
      ['team/model', { keep: true }],
      // The name says nothing of them, the longest pattern that does decides.
      ['team/quiet-model', { days: 7 }],
      ['team/x', { days: 0 }],
    ] as const)
      expect(rules.untaggedOf(repository), repository).to.deep.equal(untagged);
    expect(new Policies([policy('a/*', { untagged: { keep: true } })]).untaggedOf('b')).to.equal(undefined);
  });

  it('is for two patterns of one length what the first of them in byte order says', () => {
    const two = [policy('a/*', { untagged: { days: 1 } }), policy('*/b', { untagged: { days: 2 } })];
    expect(new Policies(two).untaggedOf('a/b')).to.deep.equal({ days: 2 });
    expect(new Policies(two.reverse()).untaggedOf('a/b')).to.deep.equal({ days: 2 });
  });

  it('protects a tag that any of them protects', () => {
    const rules = new Policies([
      policy('**', { protectedTags: ['prod'] }),
      policy('team/*', { protectedTags: ['v*', 'stable-*-lts'] }),
      policy('team/model'),
    ]);
    expect(rules.protectionOf('team/model', 'v1.0')).to.deep.equal({ pattern: 'team/*', tagPattern: 'v*' });
    expect(rules.protectionOf('team/model', 'prod')).to.deep.equal({ pattern: '**', tagPattern: 'prod' });
    expect(rules.protectionOf('team/model', 'stable-3-lts')?.tagPattern).to.equal('stable-*-lts');
    for (const [repository, tag] of [
      ['team/model', 'latest'],
      ['team/model', 'V1.0'],
      ['team/model', 'prod2'],
      ['other', 'v1.0'],
    ] as const)
      expect(rules.protectionOf(repository, tag), `${repository}:${tag}`).to.equal(undefined);
  });

  it('counts a repository in every quota that matches it', () => {
    const rules = new Policies([
      policy('**', { quotaBytes: 100, usedBytes: 40 }),
      policy('team/*', { quotaBytes: 10, usedBytes: 4 }),
      policy('team/model'),
      policy('other', { quotaBytes: 1 }),
    ]);
    expect(rules.quotasOf('team/model')).to.deep.equal([
      { pattern: 'team/*', limitBytes: 10, usedBytes: 4 },
      { pattern: '**', limitBytes: 100, usedBytes: 40 },
    ]);
    expect(rules.quotas.map(({ pattern }) => pattern)).to.deep.equal(['other', 'team/*', '**']);
  });

  it('lets bytes into a quota up to its limit, and the manifest of what fills it', () => {
    const quota = (usedBytes: number, limitBytes = 100) => ({ pattern: '**', usedBytes, limitBytes });
    for (const [used, bytes, full] of [
      [0, undefined, false],
      [99, undefined, false],
      [100, undefined, true],
      [90, 10, false],
      [90, 11, true],
      [100, 0, true],
      [Number.MAX_SAFE_INTEGER, 1, true],
    ] as const)
      expect(isFull(quota(used), { what: 'bytes', bytes }), `${used} + ${bytes}`).to.equal(full);
    expect(isFull(quota(100), { what: 'manifest' })).to.equal(false);
    expect(isFull(quota(101), { what: 'manifest' })).to.equal(true);
    expect(isFull(quota(0, 0), { what: 'bytes', bytes: undefined })).to.equal(true);
  });

  describe('as expressions of PostgreSQL', () => {
    let place: TestDatabase;
    let database: Database;

    before(async () => {
      place = await createDatabase({ empty: true });
      database = connect({ url: place.url, pool: 1, timeout: 10 });
    });
    after(async () => {
      await database.close();
      await place.drop();
    });

    it('match what patterns match', async function () {
      this.timeout(60_000);
      const part = fc.string({ unit: fc.constantFrom('a', 'b', '.', '-', '_'), minLength: 1, maxLength: 3 });
      const wild = fc
        .string({ unit: fc.constantFrom('a', 'b', '*', '.'), minLength: 1, maxLength: 4 })
        .map((text) => text.replaceAll(/\*+/g, '*'));
      const pattern = fc
        .array(fc.oneof(part, wild, fc.constant('**')), { minLength: 1, maxLength: 4 })
        .map((parts) => parts.join('/'));
      const names = fc.array(
        fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/')),
        { minLength: 20, maxLength: 20 },
      );
      await fc.assert(
        fc.asyncProperty(pattern, names, async (text, list) => {
          const rows = await database.query<{ fits: boolean }>(
            'select n ~ $1 as fits from unnest($2::text[]) with ordinality as u (n, i) order by i',
            [regexOf(text), list],
          );
          expect(rows.map(({ fits }) => fits)).to.deep.equal(list.map((name) => matches(text, name)));
        }),
        { numRuns: 300 },
      );
    });

    it('are matched soon, also the most hostile', async function () {
      this.timeout(60_000);
      const name = 'a'.repeat(20).concat('/a'.repeat(117));
      for (const hostile of [
        `${'**/a*a*a*a*a*b/'.repeat(16)}**`.slice(0, 240),
        `${'*a'.repeat(120)}b`,
        `${'**/'.repeat(80)}b`,
        `${'a*'.repeat(60)}/${'**/'.repeat(40)}b`,
      ]) {
        const before = performance.now();
        const outcome = await database
          .query('select $1 ~ $2 as fits', [name, regexOf(hostile.replace(/\/$/, ''))])
          .then(
            () => 'matched',
            (error: { code?: string }) => error.code,
          );
        expect(outcome, hostile).to.equal('matched');
        expect(performance.now() - before, hostile).to.be.below(2_000);
      }
    });
  });
});
