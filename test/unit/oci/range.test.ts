import { expect } from 'chai';
import fc from 'fast-check';
import { RegistryError } from '../../../src/errors.js';
import {
  contentRange,
  ifNoneMatch,
  ifRangeMatches,
  parseContentRange,
  parseRangeHeader,
  unsatisfiedContentRange,
} from '../../../src/oci/range.js';
import { expectFailure, expectQuick, thrownBy } from './failure.js';

const etag = '"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"';

describe('oci/range', () => {
  const size = 4000;
  const cases: [header: string | undefined, expected: ReturnType<typeof parseRangeHeader>][] = [
    [undefined, 'whole'],
    ['', 'whole'],
    ['bytes', 'whole'],
    ['bytes=', 'whole'],
    ['bytes= ,', 'whole'],
    ['items=0-1', 'whole'],
    ['bytes=a-b', 'whole'],
    ['bytes=-', 'whole'],
    ['bytes=--1', 'whole'],
    ['bytes=1', 'whole'],
    ['bytes=0-1-2', 'whole'],
    ['bytes=0x0-0x1', 'whole'],
    ['bytes=0-1,oops', 'whole'],
    ['bytes=500-1499', [{ start: 500, end: 1500 }]],
    ['BYTES=0-0', [{ start: 0, end: 1 }]],
    ['bytes=500-', [{ start: 500, end: 4000 }]],
    ['bytes=-500', [{ start: 3500, end: 4000 }]],
    ['bytes=-5000', [{ start: 0, end: 4000 }]],
    ['bytes=0-', [{ start: 0, end: 4000 }]],
    ['bytes=3999-3999', [{ start: 3999, end: 4000 }]],
    ['bytes=2000-5000', [{ start: 2000, end: 4000 }]],
    ['bytes=0-99999999999999999999999999', [{ start: 0, end: 4000 }]],
    ['bytes=4000-', 'unsatisfiable'],
    ['bytes=5000-10000', 'unsatisfiable'],
    ['bytes=500-0', 'unsatisfiable'],
    ['bytes=0-1,500-0', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    ['bytes=99999999999999999999999999-', 'unsatisfiable'],
    ['bytes=0-1,5000-', [{ start: 0, end: 2 }]],
    [
      'bytes= 0-1 ,, 10-11 ,',
      [
        { start: 0, end: 2 },
        { start: 10, end: 12 },
      ],
    ],
    [
      'bytes=10-11,0-1',
      [
        { start: 10, end: 12 },
        { start: 0, end: 2 },
      ],
    ],
    [
      'bytes=0-9,10-19',
      [
        { start: 0, end: 10 },
        { start: 10, end: 20 },
      ],
    ],
    [
      'bytes=100-199,0-9,150-299',
      [
        { start: 0, end: 10 },
        { start: 100, end: 300 },
      ],
    ],
    ['bytes=0-,0-,0-,0-,0-', [{ start: 0, end: 4000 }]],
    ['bytes=0-0,2-2,4-4,6-6,8-8', 'whole'],
  ];
  for (const [header, expected] of cases) {
    it(`reads a Range of ${header === undefined ? 'nothing' : JSON.stringify(header)} over 4000 bytes`, () =>
      expect(parseRangeHeader(header, size, 4)).to.deep.equal(expected));
  }

  it('finds no byte in an empty blob, and the last bytes of it to be all', () => {
    expect(parseRangeHeader('bytes=0-', 0, 4)).to.equal('unsatisfiable');
    expect(parseRangeHeader('bytes=-5', 0, 4)).to.equal('whole');
    expect(parseRangeHeader('bytes=-0', 0, 4)).to.equal('unsatisfiable');
  });

  it('gives the bytes that were asked for, each at most once', () => {
    const spec = fc.oneof(
      fc
        .tuple(fc.nat(60), fc.nat(20))
        .map(([first, more]) => ({ text: `${first}-${first + more}`, first, last: first + more })),
      fc.nat(60).map((first) => ({ text: `${first}-`, first, last: Number.POSITIVE_INFINITY })),
    );
    fc.assert(
      fc.property(fc.array(spec, { minLength: 1, maxLength: 8 }), fc.nat(60), (specs, length) => {
        const answer = parseRangeHeader(`bytes=${specs.map(({ text }) => text).join(', ')}`, length, 100);
        const wanted = [];
        for (let at = 0; at < length; at++)
          if (specs.some(({ first, last }) => first <= at && at <= last)) wanted.push(at);
        const given = [];
        for (const { start, end } of typeof answer === 'string' ? [] : answer) {
          expect(start).to.be.lessThan(end);
          for (let at = start; at < end; at++) given.push(at);
        }
        expect(given.sort((a, b) => a - b)).to.deep.equal(wanted);
        expect(answer === 'unsatisfiable').to.equal(wanted.length === 0);
      }),
    );
  });

  it('stays within the blob and the limit of parts on arbitrary Range headers', () => {
    const text = fc.string({ unit: fc.constantFrom('0', '1', '9', '-', ',', ' ', '=', '*') });
    fc.assert(
      fc.property(text, fc.nat(), fc.integer({ min: 1, max: 3 }), (rest, length, maxRanges) => {
        const answer = parseRangeHeader(`bytes=${rest}`, length, maxRanges);
        if (typeof answer === 'string') return;
        expect(answer.length).to.be.within(1, maxRanges);
        for (const { start, end } of answer) {
          expect(start).to.be.at.least(0);
          expect(end).to.be.at.most(length).and.greaterThan(start);
        }
      }),
      { numRuns: 2000 },
    );
  });

  for (const header of [
    '0-1023',
    'bytes 0-1023',
    'bytes=0-1023',
    'bytes 0-1023/*',
    '0-1023/2048',
    'Bytes 0-1023/1024',
    ' 0-1023 ',
  ]) {
    it(`reads the Content-Range ${JSON.stringify(header)} of a chunk`, () =>
      expect(parseContentRange(header)).to.deep.equal({ start: 0, end: 1024 }));
  }

  const refused = [
    '',
    '-',
    '0-',
    '-5',
    '5-4',
    '0-9/9',
    'bytes */9',
    'items 0-1',
    '0-1,2-3',
    '0x1-0x2',
    '1e1-20',
    '0 - 1',
    '0-9007199254740991',
    '٠-١',
  ];
  for (const header of refused) {
    it(`refuses the Content-Range ${JSON.stringify(header)} of a chunk`, () =>
      expectFailure(() => parseContentRange(header), 'RangeInvalid'));
  }

  it('reads back every Content-Range that it writes', () => {
    const total = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
    fc.assert(
      fc.property(total, fc.double({ min: 0, max: 1, noNaN: true }), (length, part) => {
        const start = Math.min(Math.floor(length * part), length - 1);
        const range = { start, end: length };
        expect(parseContentRange(contentRange(range, length))).to.deep.equal(range);
      }),
    );
    expect(contentRange({ start: 0, end: 1 }, 1)).to.equal('bytes 0-0/1');
    expect(unsatisfiedContentRange(7)).to.equal('bytes */7');
  });

  it('never throws anything but RangeInvalid on arbitrary Content-Range headers', () => {
    const text = fc.string({ unit: fc.constantFrom('0', '9', '-', '/', '*', ' ', '=', 'bytes') });
    fc.assert(
      fc.property(text, (header) => {
        const error = thrownBy(() => parseContentRange(header));
        if (error !== undefined) expect(error).to.be.instanceOf(RegistryError).with.property('failure', 'RangeInvalid');
      }),
    );
  });

  it('reads hostile ranges in linear time', () => {
    for (const unit of ['0-,', '9', ' ', ',', '1-1,', '-']) {
      expectQuick(() => parseRangeHeader(`bytes=${unit.repeat(1_000_000)}`, 1000, 4));
      expectQuick(() => parseContentRange(`bytes ${unit.repeat(1_000_000)}!`));
    }
  });

  it('applies a range when If-Range is absent or names the same entity strongly', () => {
    expect(ifRangeMatches(undefined, etag)).to.equal(true);
    expect(ifRangeMatches(etag, etag)).to.equal(true);
    expect(ifRangeMatches(`W/${etag}`, etag)).to.equal(false);
    expect(ifRangeMatches('"other"', etag)).to.equal(false);
    expect(ifRangeMatches('*', etag)).to.equal(false);
    expect(ifRangeMatches('Sat, 29 Oct 1994 19:43:31 GMT', etag)).to.equal(false);
  });

  it('finds an entity in If-None-Match among others, weak, unquoted, or by a star', () => {
    for (const header of [etag, `W/${etag}`, `"other", ${etag}`, `"a",W/"b",W/${etag} `, '*', etag.slice(1, -1)]) {
      expect(ifNoneMatch(header, etag), header).to.equal(true);
    }
    for (const header of [undefined, '', '"other"', 'W/"other"', `"${etag}`, etag.toUpperCase()]) {
      expect(ifNoneMatch(header, etag), header).to.equal(false);
    }
  });
});
