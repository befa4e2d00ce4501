import { createHash } from 'node:crypto';
import { expect } from 'chai';
import fc from 'fast-check';
import { algorithmOf, digestOf, hexOf, parseAlgorithm, parseDigest, RunningDigest } from '../../../src/oci/digest.js';
import { expectFailure, expectQuick } from './failure.js';

const empty256 = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const algorithm = fc.constantFrom('sha256' as const, 'sha512' as const);

describe('oci/digest', () => {
  it('takes a digest apart into its algorithm and hex', () => {
    expect(algorithmOf(parseDigest(empty256))).to.equal('sha256');
    expect(hexOf(parseDigest(empty256))).to.equal(empty256.slice(7));
  });

  it('accepts every digest that it computes, in both algorithms', () => {
    fc.assert(
      fc.property(algorithm, fc.uint8Array(), (name, bytes) => {
        const digest = digestOf(name, bytes);
        expect(digest).to.equal(`${name}:${createHash(name).update(bytes).digest('hex')}`);
        expect(parseDigest(digest)).to.equal(digest);
        expect(algorithmOf(digest)).to.equal(name);
      }),
    );
  });

  const refused: [what: string, text: string, message: RegExp][] = [
    ['without a colon', 'e3b0c442', /no colon/],
    ['of an algorithm that is not supported', `sha1:${'0'.repeat(40)}`, /"sha1" is not supported.*sha256, sha512/],
    ['of an algorithm in upper case', empty256.replace('sha', 'SHA'), /"SHA256" is not supported/],
    ['of an algorithm that is a property of every object', 'constructor:00', /not supported/],
    ['with hex in upper case', empty256.toUpperCase().replace('SHA', 'sha'), /not lower-case/],
    ['with characters that are no hex', `sha256:${'g'.repeat(64)}`, /not lower-case hexadecimal/],
    ['that is too short', empty256.slice(0, -1), /63 characters.*sha256 has 64/],
    ['that is too long', `${empty256}0`, /65 characters/],
    ['with the length of the other algorithm', empty256.replace('sha256', 'sha512'), /sha512 has 128/],
    ['that ends with a line feed', `${empty256}\n`, /65 characters/],
    ['whose last character is a line feed', `${empty256.slice(0, -1)}\n`, /not lower-case/],
    ['that begins with a space', ` ${empty256}`, /not supported/],
    ['of the conformance program that is none', 'sha256:baddigeststring', /15 characters/],
    ['that is empty', '', /no colon/],
  ];
  for (const [what, text, message] of refused) {
    it(`refuses a digest ${what}`, () => expectFailure(() => parseDigest(text), 'DigestInvalid', message));
  }

  it('never reads a digest from arbitrary text', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.string().map((text) => `sha256:${text}`),
        ),
        (text) => expectFailure(() => parseDigest(text), 'DigestInvalid'),
      ),
    );
  });

  it('cuts what it quotes of a hostile digest', () => {
    expectQuick(() => parseDigest(':'.repeat(10_000_000)));
    expectFailure(() => parseDigest('a'.repeat(100_000)), 'DigestInvalid', /^.{0,200}$/);
  });

  it('names the algorithms that it supports when asked for another', () => {
    expect(parseAlgorithm('sha512')).to.equal('sha512');
    expectFailure(() => parseAlgorithm('md5'), 'DigestInvalid', /sha256, sha512/);
  });

  it('computes the digest of bytes that pass in any pieces', () => {
    fc.assert(
      fc.property(algorithm, fc.array(fc.uint8Array()), (name, pieces) => {
        const run = new RunningDigest(name);
        const passed: Uint8Array[] = [];
        for (const piece of pieces) {
          run.update(piece);
          passed.push(piece);
          const all = Buffer.concat(passed);
          expect(run.size).to.equal(all.length);
          expect(run.digest()).to.equal(digestOf(name, all));
        }
        expect(run.algorithm).to.equal(name);
      }),
    );
  });

  it('copies a run that then knows nothing of the first', () => {
    const first = new RunningDigest('sha256');
    first.update(Buffer.from('ab'));
    const second = first.copy();
    first.update(Buffer.from('c'));
    second.update(Buffer.from('de'));
    expect(first.digest()).to.equal(digestOf('sha256', Buffer.from('abc')));
    expect(second.digest()).to.equal(digestOf('sha256', Buffer.from('abde')));
    expect([first.size, second.size]).to.deep.equal([3, 4]);
  });

  it('gives the known digest of no bytes', () => {
    expect(new RunningDigest('sha256').digest()).to.equal(empty256);
  });
});
