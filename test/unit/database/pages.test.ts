import { expect } from 'chai';
import { parseCursor, writeCursor } from '../../../src/database/pages.js';
import { isFailure } from '../../../src/errors.js';

describe('the cursor of a page', () => {
  const ID = '3f0c9a52-7d0e-4c55-9c1c-0a4a3c3f5b11';
  const parse = (value: string, id = ID, order = '-at') =>
    parseCursor(writeCursor([order, value, id]), '-at', { type: 'timestamptz' }, 'uuid');

  it('names a place in its own order, to the microsecond', () => {
    expect(parse('2026-02-28T23:59:59.123456Z')).to.deep.equal(['2026-02-28T23:59:59.123456Z', ID]);
  });

  for (const [what, work] of [
    ['of another order', () => parse('2026-02-28T23:59:59Z', ID, 'at')],
    ['with an id of another kind', () => parse('2026-02-28T23:59:59Z', '17')],
    ['of a day that is not in the calendar', () => parse('2026-02-30T00:00:00Z')],
    ['of a month that there is not', () => parse('2026-13-01T00:00:00Z')],
    ['of an hour that there is not', () => parse('2026-01-01T24:00:00Z')],
    ['of the year 0, which PostgreSQL has not', () => parse('0000-01-01T00:00:00Z')],
    ['of no time', () => parse('now')],
    ['that is no JSON', () => parseCursor('AAAA', '-at', { type: 'timestamptz' }, 'uuid')],
    ['that is no list', () => parseCursor('bnVsbA', '-at', { type: 'timestamptz' }, 'uuid')],
  ] as const)
    it(`is refused ${what}`, () => {
      expect(work)
        .to.throw()
        .that.satisfies((error: unknown) => isFailure(error, 'PageInvalid'));
    });
});
