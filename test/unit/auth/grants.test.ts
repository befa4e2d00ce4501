import { expect } from 'chai';
import { matches, parseGrants, parsePattern } from '../../../src/auth/grants.js';
import { isFailure } from '../../../src/errors.js';

describe('patterns of repositories', () => {
  const cases: [string, readonly string[], readonly string[]][] = [
    ['team/model', ['team/model'], ['team', 'team/model/x', 'team/models', 'xteam/model']],
    ['team/*', ['team/a', 'team/a-b.c'], ['team', 'team/a/b', 'teams/a', 'other/team/a']],
    ['team/**', ['team/a', 'team/a/b/c'], ['team', 'teams/a']],
    ['**', ['a', 'a/b/c'], []],
    ['*', ['a', 'abc'], ['a/b']],
    ['**/model', ['model', 'a/model', 'a/b/model'], ['a/models', 'model/a']],
    ['a/**/z', ['a/z', 'a/b/z', 'a/b/c/z'], ['a', 'z', 'a/b', 'a/zz']],
    ['team-*/m*l', ['team-a/ml', 'team-abc/model'], ['team/ml', 'team-a/mlx', 'team-a/m']],
    ['a*b*c', ['abc', 'axbxc', 'abcbc'], ['ab', 'acb', 'abcd']],
    ['ab*ba', ['abba', 'abxba'], ['aba', 'ab']],
  ];
  for (const [pattern, fit, others] of cases) {
    it(`let ${pattern} stand for what it says`, () => {
      for (const name of fit) expect(matches(pattern, name), name).to.equal(true);
      for (const name of others) expect(matches(pattern, name), name).to.equal(false);
    });
  }

  it('are matched soon, also the most hostile', () => {
    const pattern = `${'**/a*a*a*a*a*b/'.repeat(16)}**`.slice(0, 255).replace(/\/$/, '');
    const name = 'a'.repeat(20).concat('/a'.repeat(117));
    const before = performance.now();
    for (let index = 0; index < 100; index++) matches(pattern, name);
    expect(performance.now() - before).to.be.below(5_000);
  });

  for (const text of [
    '',
    '/',
    'a/',
    '/a',
    'A/b',
    'a//b',
    'a b',
    'team/**x',
    'x**',
    '***',
    'a\0',
    'a'.repeat(256),
    7,
    null,
  ]) {
    it(`refuse ${JSON.stringify(text)?.slice(0, 20)}`, () => {
      expect(() => parsePattern(text)).to.throw(/repository pattern/);
    });
  }
});

describe('grants', () => {
  it('are read as they are written', () => {
    const written = [
      { repository: 'team/*', actions: ['pull', 'push', 'pull'] },
      { repository: '**', actions: ['admin'] },
    ];
    expect(parseGrants(written)).to.deep.equal([
      { repository: 'team/*', actions: ['pull', 'push'] },
      { repository: '**', actions: ['admin'] },
    ]);
  });

  for (const [what, value] of [
    ['no list', {}],
    ['nothing in the list', [null]],
    ['no actions', [{ repository: 'a' }]],
    ['an empty list of actions', [{ repository: 'a', actions: [] }]],
    ['an action that there is not', [{ repository: 'a', actions: ['toString'] }]],
    ['admin for a part', [{ repository: 'a/**', actions: ['admin'] }]],
    ['more than anybody needs', Array.from({ length: 1001 }, () => ({ repository: 'a', actions: ['pull'] }))],
  ] as const) {
    it(`are refused with ${what}`, () => {
      expect(() => parseGrants(value))
        .to.throw()
        .and.satisfy((error: unknown) => isFailure(error, 'ParameterInvalid'));
    });
  }
});
