import { expect } from 'chai';
import fc from 'fast-check';
import { digestOf } from '../../../src/oci/digest.js';
import { parseReference, parseRepositoryName, parseTag } from '../../../src/oci/name.js';
import { expectFailure, expectQuick } from './failure.js';

const word = fc.stringMatching(/^[a-z0-9]{1,6}$/);
const separator = fc.constantFrom('.', '_', '__', '-', '---');
const component = fc
  .tuple(word, fc.array(fc.tuple(separator, word), { maxLength: 3 }))
  .map(([first, rest]) => first + rest.flat().join(''));
const name = fc.array(component, { minLength: 1, maxLength: 5 }).map((components) => components.join('/'));

describe('oci/name', () => {
  it('accepts every repository name that the grammar of the specification generates', () => {
    fc.assert(
      fc.property(name, (text) => {
        expect(parseRepositoryName(text)).to.equal(text);
      }),
    );
  });

  it('agrees with the expression of the specification on arbitrary names', () => {
    const specified = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;
    const unit = fc.constantFrom('a', '0', '.', '_', '-', '/', 'A', ' ', '\n');
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 12 }), (text) => {
        if (specified.test(text)) expect(parseRepositoryName(text)).to.equal(text);
        else expectFailure(() => parseRepositoryName(text), 'NameInvalid');
      }),
      { numRuns: 2000 },
    );
  });

  for (const text of [
    '',
    '/a',
    'a/',
    'a//b',
    'a..b',
    'a___b',
    '.a',
    'a-',
    'a/../b',
    'Llama',
    'ünder',
    'a:b',
    'a\n',
    'a%2fb',
  ]) {
    it(`refuses ${JSON.stringify(text)} as a repository name`, () =>
      expectFailure(() => parseRepositoryName(text), 'NameInvalid'));
  }

  it('accepts a repository name of 255 characters and refuses one of 256', () => {
    expect(parseRepositoryName('a'.repeat(255))).to.have.length(255);
    expectFailure(() => parseRepositoryName('a'.repeat(256)), 'NameInvalid', /256 characters; at most 255/);
  });

  it('refuses hostile repository names in linear time', () => {
    for (const unit of ['a', 'a-', 'a/', '-', 'a_']) {
      expectQuick(() => parseRepositoryName(`${unit.repeat(120)}!`));
      expectQuick(() => parseRepositoryName(`${unit.repeat(2_000_000)}!`));
    }
  });

  it('accepts tags of 1 to 128 characters and no longer ones', () => {
    for (const text of ['v3.0-fp16', '_', 'A', '0.5B-Q4_K_M', 'x'.repeat(128)]) expect(parseTag(text)).to.equal(text);
    expectFailure(() => parseTag('x'.repeat(129)), 'TagInvalid', /1 to 128/);
  });

  for (const text of ['', '.a', '-a', 'a/b', 'a+b', 'a b', 'a\n', 'é', 'a:b']) {
    it(`refuses ${JSON.stringify(text)} as a tag`, () => expectFailure(() => parseTag(text), 'TagInvalid'));
  }

  it('reads a reference as a tag or a digest, and says which', () => {
    const digest = digestOf('sha256', new Uint8Array());
    const tagged = parseReference('latest');
    const digested = parseReference(digest);
    expect('tag' in tagged && tagged.tag).to.equal('latest');
    expect('tag' in digested).to.equal(false);
    expect('digest' in digested && digested.digest).to.equal(digest);
  });

  it('takes every reference with a colon for a digest', () => {
    expectFailure(() => parseReference('latest:1'), 'DigestInvalid');
    expectFailure(() => parseReference('sha256:zz'), 'DigestInvalid');
    expectFailure(() => parseReference('sha256-zz!'), 'TagInvalid');
  });
});
