import { expect } from 'chai';
import fc from 'fast-check';
import { versionOrder } from '../../../src/weights/version.js';
import { expectQuick } from '../oci/failure.js';

const compare = (one: string, other: string): number =>
  Buffer.compare(Buffer.from(versionOrder(one)), Buffer.from(versionOrder(other)));

function expectAscending(...versions: string[]): void {
  for (const [index, version] of versions.entries()) {
    for (const later of versions.slice(index + 1)) {
      expect(compare(version, later), `${version} before ${later}`).to.equal(-1);
      expect(compare(later, version), `${later} after ${version}`).to.equal(1);
    }
  }
}

/** The key without the text that breaks ties. */
const meaning = (version: string): string => {
  const key = versionOrder(version);
  return key.slice(0, key.length - version.length);
};

const words = [
  'v',
  '1',
  '0',
  '00',
  '10',
  '7b',
  'instruct',
  'rc',
  'alpha',
  'm1',
  'a1',
  '3',
  'nightly',
  '.0',
  '99999999',
];
const anyVersion = fc
  .array(fc.tuple(fc.constantFrom(...words), fc.constantFrom('.', '-', '_', '')), { maxLength: 8 })
  .map((parts) => parts.flat().join(''));

describe('weights/version orders', () => {
  it('numbers as numbers', () => {
    expectAscending('v0', 'v0.1', 'v1', 'v1.1', 'v1.2', 'v1.10', 'v1.10.3', 'v2', 'v3.9', 'v3.10', 'v10', 'v11.0');
    expectAscending(
      '20240101',
      '20240131',
      '20241201',
      '20250101',
      '9'.repeat(26),
      `1${'0'.repeat(26)}`,
      '9'.repeat(99),
    );
  });

  it('without regard to a leading v, to case, to leading zeros and to a .0 at the end', () => {
    for (const [one, other] of [
      ['v1.0', '1.0'],
      ['V1', 'v1'],
      ['v1', 'v1.0.0'],
      ['1.02', '1.2'],
      ['v1.0-RC1', 'v1-rc.1'],
      ['7B-Instruct', '7b-instruct'],
      ['7b-v1.0', '7b-1'],
      ['1.0-instruct', '1-instruct'],
      ['1.0a1', '1.0-alpha1'],
    ] as const) {
      expect(meaning(one), `${one} ${other}`).to.equal(meaning(other));
    }
    expect(meaning('0.0')).to.equal(meaning('0'));
    expect(meaning('1.0.1')).not.to.equal(meaning('1.1'));
    expect(meaning('10')).not.to.equal(meaning('1'));
  });

  it('equal versions of another text always the same way, and those that differ in case alone as one', () => {
    expect(compare('v1.0', '1.0')).not.to.equal(0);
    expect(compare('v1', 'v1.0')).to.equal(-1);
    expect(versionOrder('V1.0-RC1')).to.equal(versionOrder('v1.0-rc1'));
  });

  it('dates', () => {
    expectAscending('2023-12-31', '2024-01-02', '2024-01-10', '2024-02-01', '2024-10-01', '2025-01-01');
    expectAscending('2024.4', '2024.10', '2024.10.3', '2025.1');
  });

  it('variants behind what they are variants of, and naturally', () => {
    expectAscending('7b', '7b-chat', '7b-instruct', '7b-instruct-v2', '7b-instruct-v10', '13b', '70b', '70b-chat');
    expectAscending('v1.0', 'v1.0-base', 'v1.0-instruct', 'v1.0-1', 'v1.0-2', 'v1.0.1', 'v1.0.1-instruct', 'v1.1');
    expectAscending('1b', '1.5b', '7b', '8b', '8x7b');
  });

  it('pre-releases before everything that is none', () => {
    const versions = ['alpha', 'beta', 'rc1', 'v9-rc1', 'v9.0a1', 'v9b2', 'v9.0rc1', '9.0-pre', '9-preview', '9.dev1'];
    versions.push(
      'nightly',
      'v9-nightly-20240101',
      '9-SNAPSHOT',
      '9-canary.3',
      '9-experimental',
      '9.0-M2',
      '9-milestone3',
    );
    versions.push('7b-instruct-preview', '9-preview-05-20', '9beta', '9-Beta-3', '9c1', 'v9-a1.dev3');
    for (const version of versions) expectAscending(version, '', 'anything', '0', '0.1');
  });

  it('sizes, active parameters and words that only begin so as no pre-releases', () => {
    for (const version of [
      '7b',
      '350m',
      '30b-a3b',
      '7b-instruct',
      '1.5b-b',
      'm3',
      'b1',
      'v1-alphabet',
      '7b2x',
      '1-m',
      'v1a',
    ]) {
      expectAscending('99-rc1', version);
    }
  });

  it('pre-releases among themselves as semver does', () => {
    expectAscending(
      '1.0.0-alpha',
      '1.0.0-alpha.1',
      '1.0.0-alpha.beta',
      '1.0.0-beta',
      '1.0.0-beta.2',
      '1.0.0-beta.11',
      '1.0.0-rc.1',
      '1.0.1-alpha',
      '2.0.0-alpha',
      '1.0.0',
    );
    expectAscending('v1-rc1', 'v1-rc2', 'v1-rc10', 'v1.1-a1', 'v1.1-a2', 'v1.1-b1', 'v1.1-rc1', 'v1.2-m1', 'v1.2-m2');
  });

  it('versions without a number before those with one, the empty one first', () => {
    expectAscending('nightly', 'snapshot', 'nightly-2', '0.1-rc1', '', 'final', 'zeta', 'instruct-v2', '0');
  });

  it('any text by a short key of ASCII, transitively and the same in any case', () => {
    fc.assert(
      fc.property(fc.oneof(anyVersion, fc.string({ unit: 'binary', maxLength: 300 })), (version) => {
        expect(versionOrder(version)).to.match(/^[!-~]{1,400}$/);
      }),
      { numRuns: 3000 },
    );
    fc.assert(
      fc.property(anyVersion, (version) => {
        expect(versionOrder(version.toUpperCase())).to.equal(versionOrder(version));
        expect(versionOrder(version), 'what is added makes it no smaller').to.satisfy(
          (key: string) => /[a-z]$/.test(version) || key < versionOrder(`${version}.99999`) || version === '',
        );
      }),
    );
  });

  it('the longest keys within 400 characters', () => {
    for (const part of [
      '1a',
      'a1',
      '-m1',
      '1m1-',
      'm1.m1.',
      '1.',
      'a.',
      '1',
      'a',
      '1-rc1-m1',
      '1'.repeat(17).concat('-'),
    ]) {
      for (const lead of ['', '1', '1-m1-']) {
        const version = (lead + part.repeat(128)).slice(0, 128);
        expect(versionOrder(version), version).to.match(/^[!-~]{1,400}$/);
      }
    }
  });

  it('hostile versions in no time', () => {
    for (const part of ['.', '-v', '1', 'a', '0.', 'v1']) {
      expectQuick(() => versionOrder(part.repeat(1_000_000)));
      expectQuick(() => {
        for (let run = 0; run < 2000; run++) versionOrder(part.repeat(128).slice(0, 128));
      });
    }
  });
});
