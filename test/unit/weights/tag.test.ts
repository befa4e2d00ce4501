import { expect } from 'chai';
import fc from 'fast-check';
import { isQuantization, isSameQuantization } from '../../../src/weights/quantization.js';
import { readTag, spellings, tagOf } from '../../../src/weights/tag.js';
import { expectQuick } from '../oci/failure.js';

const release = (version: string, quantization: string | null) => ({ kind: 'release', version, quantization });

const characters = [...'abfgkmnpqtuvx0123456789QKMS___---...'];
const words = [
  'v1',
  'v3.0',
  '7b',
  'instruct',
  'latest',
  'bnb',
  '4bit',
  'UD',
  'Q4_K_M',
  'q4_0',
  '4_4',
  'fp16',
  '4.65bpw',
];
const word = fc.oneof(fc.constantFrom(...words), fc.string({ unit: fc.constantFrom(...characters), maxLength: 6 }));
/** Tags made of what tags are made of, so that many are ambiguous. */
const anyTag = fc
  .array(fc.tuple(word, fc.constantFrom('-', '_', '.', '')), { minLength: 1, maxLength: 7 })
  .map((parts) => parts.flat().join(''))
  .filter((text) => /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/.test(text));

describe('weights/tag reads', () => {
  for (const [tag, version, quantization] of [
    ['v3.0-fp16', 'v3.0', 'fp16'],
    ['v3.0-INT8', 'v3.0', 'INT8'],
    ['v3.0_bf16', 'v3.0', 'bf16'],
    ['v3.0.int4', 'v3.0', 'int4'],
    ['v3.0', 'v3.0', null],
    ['V3', 'V3', null],
    ['2024.04', '2024.04', null],
    ['7B-Q4_K_M', '7B', 'Q4_K_M'],
    ['7b-instruct-q4_K_M', '7b-instruct', 'q4_K_M'],
    ['8b', '8b', null],
    ['Q4_K_M', '', 'Q4_K_M'],
    ['_fp16', '', 'fp16'],
    ['latest-fp16', 'latest', 'fp16'],
    ['v1-Q4_0', 'v1', 'Q4_0'],
    ['v1-Q8_0', 'v1', 'Q8_0'],
    ['v1-Q4_0_4_4', 'v1', 'Q4_0_4_4'],
    ['v1_q4_0_8_8', 'v1', 'q4_0_8_8'],
    ['v1-q4-k-m', 'v1', 'q4-k-m'],
    ['v1-IQ2_XXS', 'v1', 'IQ2_XXS'],
    ['v1-IQ4_NL', 'v1', 'IQ4_NL'],
    ['v1-TQ1_0', 'v1', 'TQ1_0'],
    ['v1-UD-Q4_K_XL', 'v1', 'UD-Q4_K_XL'],
    ['v1-UD-IQ1_M', 'v1', 'UD-IQ1_M'],
    ['v1-MXFP4_MOE', 'v1', 'MXFP4_MOE'],
    ['v1-mxfp4', 'v1', 'mxfp4'],
    ['v1-nvfp4', 'v1', 'nvfp4'],
    ['v1-fp8_e4m3', 'v1', 'fp8_e4m3'],
    ['v1-FP8-E5M2', 'v1', 'FP8-E5M2'],
    ['v1-fp8', 'v1', 'fp8'],
    ['v1-nf4', 'v1', 'nf4'],
    ['v1-awq', 'v1', 'awq'],
    ['v1-gptq', 'v1', 'gptq'],
    ['v1-GPTQ-Int4', 'v1', 'GPTQ-Int4'],
    ['v1-w4a16', 'v1', 'w4a16'],
    ['v1-w8a8', 'v1', 'w8a8'],
    ['v1-4bit', 'v1', '4bit'],
    ['v1-bnb-4bit', 'v1', 'bnb-4bit'],
    ['v1-4.65bpw', 'v1', '4.65bpw'],
    ['v2.4.0bpw', 'v2', '4.0bpw'],
    ['v4.0bpw', 'v4.0bpw', null],
    ['v1--f32', 'v1-', 'f32'],
    ['2024-Q4', '2024-Q4', null],
    ['v1-fp16x', 'v1-fp16x', null],
    ['v1-xfp16', 'v1-xfp16', null],
    ['v1fp16', 'v1fp16', null],
  ] as const) {
    it(`${tag} as ${version || 'no version'} in ${quantization ?? 'no quantization'}`, () => {
      expect(readTag(tag)).to.deep.equal(release(version, quantization));
    });
  }

  it('words as aliases', () => {
    for (const tag of ['latest', 'prod', 'main', 'v', 'vnext', 'stable-v1', '_1', 'x'.repeat(128), 'sha256-abc']) {
      expect(readTag(tag), tag).to.deep.equal({ kind: 'alias' });
    }
  });

  it('what is attached by a tag, and what is no tag, as neither', () => {
    const hex = '0123456789abcdef'.repeat(4);
    const attached = [`sha256-${hex}`, `sha256-${hex}.sig`, `sha256-${hex}.fp16`, `sha512-${hex}`, `SHA256-${hex}`];
    for (const text of [...attached, '', '-fp16', '.fp16', 'v1:fp16', 'v1-fp16\n', 'v1/fp16', `v${'1'.repeat(128)}`]) {
      expect(readTag(text), text).to.deep.equal({ kind: 'other' });
    }
  });

  it('hostile tags in no time', () => {
    for (const text of ['4_', 'ud-', '9.', '--', 'q4_0_'].map((part) => part.repeat(100).slice(0, 128))) {
      expectQuick(() => {
        for (let run = 0; run < 2000; run++) readTag(text);
      });
    }
  });
});

describe('weights/tag writes', () => {
  it('version and quantization with a dash between, or one of them alone', () => {
    expect(tagOf('v3.0', 'fp16')).to.equal('v3.0-fp16');
    expect(tagOf('v3.0', null)).to.equal('v3.0');
    expect(tagOf('', 'Q4_K_M')).to.equal('Q4_K_M');
  });

  it('another separator where the dash would be read otherwise', () => {
    expect(readTag('v1-fp8.e4m3')).to.deep.equal(release('v1-fp8.e4m3', null));
    expect(tagOf('v1', '5bpw')).to.equal('v1-5bpw');
    const meaning = readTag('v1-bnb.4bit');
    expect(meaning).to.deep.equal(release('v1-bnb', '4bit'));
    expect(tagOf('v1-bnb', '4bit')).to.equal('v1-bnb.4bit');
  });

  it('what is no release of its parts, for the caller to refuse', () => {
    expect(readTag(tagOf('latest', null))).to.deep.equal({ kind: 'alias' });
    expect(readTag(tagOf('v1', 'tiny'))).to.deep.equal(release('v1-tiny', null));
    expect(readTag(tagOf('', null))).to.deep.equal({ kind: 'other' });
    expect(readTag(tagOf('v1 final', 'fp16'))).to.deep.equal({ kind: 'other' });
    expect(spellings('v1', 'tiny')).to.deep.equal([]);
  });

  it('a tag that means the same as the one that was read, whenever that is a release', () => {
    let releases = 0;
    fc.assert(
      fc.property(anyTag, (tag) => {
        const meaning = readTag(tag);
        if (meaning.kind !== 'release') return;
        releases += 1;
        expect(readTag(tagOf(meaning.version, meaning.quantization))).to.deep.equal(meaning);
      }),
      { numRuns: 5000 },
    );
    expect(releases).to.be.greaterThan(500);
  });

  it('all spellings of a release, and only those', () => {
    expect(spellings('v3.0', 'FP16')).to.deep.equal(['v3.0-fp16', 'v3.0_fp16', 'v3.0.fp16']);
    expect(spellings('V3.0', null)).to.deep.equal(['v3.0']);
    expect(spellings('', 'fp16')).to.deep.equal(['fp16', '_fp16']);
    expect(spellings('v1-bnb', '4bit')).to.deep.equal(['v1-bnb.4bit']);
  });

  it('every tag among the spellings of its release, each of which is read as the same in any case', () => {
    fc.assert(
      fc.property(anyTag, (tag) => {
        const meaning = readTag(tag);
        if (meaning.kind !== 'release') return;
        const { version, quantization } = meaning;
        const all = spellings(version, quantization);
        expect(all).to.include(tag.toLowerCase());
        for (const spelling of all) {
          const lower = release(version.toLowerCase(), quantization?.toLowerCase() ?? null);
          expect(readTag(spelling)).to.deep.equal(lower);
          expect(spellings(version.toUpperCase(), quantization?.toUpperCase() ?? null)).to.include(spelling);
        }
      }),
      { numRuns: 5000 },
    );
  });
});

describe('weights/quantization', () => {
  it('knows its labels in any case, and no others', () => {
    for (const label of [
      'fp16',
      'FP16',
      'q4_k_m',
      'UD-Q2_K_XL',
      'ud_q2_k_xl',
      'bnb-4bit',
      '3.5BPW',
      'Q6_K',
      'iq3_kt',
    ]) {
      expect(isQuantization(label), label).to.equal(true);
    }
    for (const text of ['', 'fp', 'K_M', '0bpw', '123bpw', 'mlx', '__proto__', 'constructor', 'x'.repeat(1e6)]) {
      expect(isQuantization(text), text.slice(0, 20)).to.equal(false);
    }
  });

  it('compares labels without regard to case, separator and name', () => {
    for (const [one, other] of [
      ['fp16', 'F16'],
      ['BF16', 'bfloat16'],
      ['fp8-e4m3', 'F8_E4M3'],
      ['q4_K_M', 'Q4_K_M'],
      ['MXFP4', 'mxfp4_moe'],
    ] as const) {
      expect(isSameQuantization(one, other), `${one} ${other}`).to.equal(true);
    }
    expect(isSameQuantization('fp16', 'bf16')).to.equal(false);
    expect(isSameQuantization('Q4_K_M', 'Q4_K_S')).to.equal(false);
  });
});
