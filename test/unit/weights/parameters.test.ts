import { expect } from 'chai';
import fc from 'fast-check';
import { parseParameterCount, parseParameterRange } from '../../../src/weights/parameters.js';

describe('weights/parameters', () => {
  for (const [text, count] of [
    ['7B', 7e9],
    ['7b', 7e9],
    ['1.5B', 1.5e9],
    ['0.5B', 5e8],
    ['350M', 350e6],
    ['999.89M', 999_890_000],
    ['361.82 M', 361_820_000],
    ['12k', 12_000],
    ['1T', 1e12],
    ['1.1B', 1_100_000_000],
    ['8x7B', 56e9],
    ['8x22b', 176e9],
    ['30B-A3B', 30e9],
    ['235b-a22b', 235e9],
    ['7000000000', 7e9],
    ['0', 0],
    [' 7B ', 7e9],
    ['1.0000000009B', 1e9],
  ] as const) {
    it(`counts ${text}`, () => {
      expect(parseParameterCount(text)).to.equal(count);
    });
  }

  it('does not count what says no number of parameters, or one that JSON cannot hold', () => {
    for (const text of [
      '',
      'B',
      '7Q',
      '7B!',
      '-7B',
      '+7B',
      '1.5',
      '7.B',
      '.5B',
      '1e9',
      'x7B',
      '8x',
      '30B-3B',
      '٧B',
      '7  B',
    ]) {
      expect(parseParameterCount(text), text).to.equal(undefined);
    }
    expect(parseParameterCount('9007199254740991')).to.equal(Number.MAX_SAFE_INTEGER);
    expect(parseParameterCount('9007199254740992')).to.equal(undefined);
    expect(parseParameterCount('9999999T')).to.equal(undefined);
    expect(parseParameterCount('9'.repeat(1e6))).to.equal(undefined);
  });

  it('reads filters with both ends included', () => {
    for (const [text, range] of [
      ['7000000000', { min: 7e9, max: 7e9 }],
      ['=7B', { min: 7e9, max: 7e9 }],
      ['>=7000000000', { min: 7e9 }],
      ['> 7B', { min: 7e9 + 1 }],
      ['<=13B', { max: 13e9 }],
      ['<13B', { max: 13e9 - 1 }],
      ['7B..13B', { min: 7e9, max: 13e9 }],
      ['1.5B..1.5B', { min: 1.5e9, max: 1.5e9 }],
      ['7B..', { min: 7e9 }],
      ['..13B', { max: 13e9 }],
    ] as const) {
      expect(parseParameterRange(text), text).to.deep.equal(range);
    }
  });

  for (const [text, min, below] of [
    ['7B', 6.5e9, 7.5e9],
    [' 7b ', 6.5e9, 7.5e9],
    ['7.0B', 6.95e9, 7.05e9],
    ['1.5B', 1.45e9, 1.55e9],
    ['7000M', 6_999_500_000, 7_000_500_000],
    ['350M', 349.5e6, 350.5e6],
    ['0.5k', 450, 550],
    ['1.234k', 1234, 1235],
    ['1.2345K', 1234, 1235],
    ['0B', 0, 5e8],
    ['8x7B', 52e9, 60e9],
    ['30B-A3B', 29.5e9, 30.5e9],
    ['7', 7, 8],
    ['9007T', 9006.5e12, 2 ** 53],
  ] as const)
    it(`takes for ${text} all that rounds to it`, () => {
      expect(parseParameterRange(text)).to.deep.equal({ min, max: below - 1 });
    });

  it('reads no filter that is none, or that nothing can pass', () => {
    for (const text of [
      '',
      '..',
      '>',
      '>=',
      '13B..7B',
      '<0',
      '7B..x',
      'x..7B',
      '7B...13B',
      '7B-13B',
      '>=>7B',
      '!=7B',
    ]) {
      expect(parseParameterRange(text), text).to.equal(undefined);
    }
  });

  it('takes any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789.xABkmbt<>=-. '), maxLength: 30 }), (text) => {
        const range = parseParameterRange(text);
        for (const bound of [range?.min, range?.max, parseParameterCount(text)]) {
          if (bound !== undefined) expect(bound).to.satisfy(Number.isInteger);
        }
        if (range?.min !== undefined && range.max !== undefined) expect(range.min).to.be.at.most(range.max);
      }),
      { numRuns: 2000 },
    );
  });
});
