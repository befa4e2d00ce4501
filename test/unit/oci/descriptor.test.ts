import { expect } from 'chai';
import { parseDescriptor } from '../../../src/oci/descriptor.js';
import { expectFailure } from './failure.js';
import { describeContent } from './samples.js';

describe('oci/descriptor', () => {
  it('keeps the properties that the image specification names, and of others those that say what a model is', () => {
    const full = describeContent('{}', {
      artifactType: 'application/vnd.example',
      annotations: { 'org.opencontainers.image.title': 'model.safetensors', empty: '' },
      urls: ['https://example.com/a'],
      data: 'e30=',
      platform: { architecture: 'amd64', os: 'linux', 'os.features': ['a'] },
    });
    expect(parseDescriptor({ ...full, unknown: { a: 1 }, modelMetadata: 'int4' }, 'config')).to.deep.equal(full);
    const said = { ...full, modelMetadata: { quantization: 'int4' } };
    expect(parseDescriptor(said, 'config')).to.deep.equal(said);
  });

  it('takes null for absent, as Go writes it', () => {
    const bare = describeContent('x');
    const written = { ...bare, artifactType: null, annotations: null, urls: null, data: null, platform: null };
    expect(parseDescriptor(written, 'config')).to.deep.equal(bare);
  });

  it('accepts any media type of a blob', () => {
    for (const mediaType of ['', 'text/plain; charset=utf-8', 'no type', 'application/vnd.docker.ai.gguf.v3']) {
      expect(parseDescriptor(describeContent('x', { mediaType }), 'config').mediaType).to.equal(mediaType);
    }
  });

  it('accepts an annotation called __proto__ as any other', () => {
    const value: unknown = JSON.parse(
      JSON.stringify(describeContent('x')).replace(/}$/, ',"annotations":{"__proto__":"a"}}'),
    );
    expect(Object.entries(parseDescriptor(value, 'config').annotations ?? {})).to.deep.equal([['__proto__', 'a']]);
  });

  const refused: [what: string, value: unknown, message: RegExp][] = [
    ['that is null', null, /^layers\[3\] is not an object/],
    ['that is an array', [], /^layers\[3\] is not an object/],
    ['without a digest', describeContent('x', { digest: undefined }), /^layers\[3\]\.digest is missing/],
    ['with a number for a digest', describeContent('x', { digest: 1 }), /^layers\[3\]\.digest is not a string/],
    [
      'with a short digest',
      describeContent('x', { digest: 'sha256:00' }),
      /^layers\[3\]\.digest is invalid: .*sha256 has 64/,
    ],
    ['without a size', describeContent('x', { size: undefined }), /^layers\[3\]\.size is missing/],
    ['with a negative size', describeContent('x', { size: -1 }), /^layers\[3\]\.size is not a whole number/],
    ['with a fraction for a size', describeContent('x', { size: 1.5 }), /^layers\[3\]\.size/],
    ['with a size in quotes', describeContent('x', { size: '1' }), /^layers\[3\]\.size/],
    ['with a size that no double holds', describeContent('x', { size: 2 ** 53 }), /^layers\[3\]\.size/],
    ['without a media type', describeContent('x', { mediaType: undefined }), /^layers\[3\]\.mediaType is missing/],
    [
      'with an annotation that is no string',
      describeContent('x', { annotations: { a: 1 } }),
      /^layers\[3\]\.annotations\["a"\]/,
    ],
    [
      'with a list of annotations',
      describeContent('x', { annotations: [] }),
      /^layers\[3\]\.annotations is not an object/,
    ],
    ['with a NUL in an annotation', describeContent('x', { annotations: { a: '\0' } }), /NUL/],
    [
      'with half a surrogate pair in the name of an annotation',
      describeContent('x', { annotations: { '\ud800': '' } }),
      /surrogate/,
    ],
    ['with one URL that is no string', describeContent('x', { urls: ['a', 1] }), /^layers\[3\]\.urls\[1\]/],
    ['with data that is not base64', describeContent('x', { data: '!' }), /^layers\[3\]\.data is not base64/],
    ['with data of other content', describeContent('x', { data: 'eQ==' }), /^layers\[3\]\.data is not the content/],
    [
      'with data of another size',
      describeContent('x', { size: 2, data: 'eA==' }),
      /^layers\[3\]\.data is not the content/,
    ],
    ['with a platform that is no object', describeContent('x', { platform: 'linux' }), /^layers\[3\]\.platform/],
    [
      'with a second spelling of the digest',
      describeContent('x', { Digest: 'sha256:00' }),
      /^layers\[3\] spells digest as "Digest"/,
    ],
    [
      'with a spelling that Go folds to the size',
      describeContent('x', { ſize: 5 }),
      /^layers\[3\] spells size as "ſize"/,
    ],
  ];
  for (const [what, value, message] of refused) {
    it(`refuses a descriptor ${what}`, () =>
      expectFailure(() => parseDescriptor(value, 'layers[3]'), 'ManifestInvalid', message));
  }

  it('takes a size of minus zero for zero', () => {
    expect(Object.is(parseDescriptor(describeContent('', { size: -0 }), 'config').size, 0)).to.equal(true);
  });
});
