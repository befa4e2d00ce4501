import { expect } from 'chai';
import fc from 'fast-check';
import { RegistryError } from '../../../src/errors.js';
import { digestOf } from '../../../src/oci/digest.js';
import { type Manifest, parseManifest } from '../../../src/oci/manifest.js';
import {
  DOCKER_CONFIG,
  DOCKER_FOREIGN_LAYER,
  DOCKER_LAYER,
  DOCKER_MANIFEST,
  DOCKER_MANIFEST_LIST,
  DOCKER_MANIFEST_SCHEMA1,
  DOCKER_MANIFEST_SCHEMA1_SIGNED,
  OCI_EMPTY,
  OCI_IMAGE_CONFIG,
  OCI_IMAGE_INDEX,
  OCI_IMAGE_MANIFEST,
  OCI_NONDISTRIBUTABLE_LAYER_TAR_GZIP,
} from '../../../src/oci/media-types.js';
import { expectFailure, expectQuick, thrownBy } from './failure.js';
import { describeContent, encode, imageIndex, imageManifest, limits } from './samples.js';

const parse = (document: object | string, contentType?: string): Manifest =>
  parseManifest(encode(document), contentType, limits);

const kinds = (manifest: Manifest): string[] =>
  manifest.references.map(({ kind, required }) => `${kind}${required ? '' : ' (elsewhere)'}`);

const empty = describeContent('{}', { mediaType: OCI_EMPTY, data: 'e30=' });

describe('oci/manifest accepts', () => {
  it('an image, and says what it names', () => {
    const manifest = parse(imageManifest({ annotations: { a: 'b' } }), OCI_IMAGE_MANIFEST);
    expect(manifest).to.include({ mediaType: OCI_IMAGE_MANIFEST, kind: 'image', artifactType: OCI_IMAGE_CONFIG });
    expect(manifest.annotations).to.deep.equal({ a: 'b' });
    expect(manifest.subject).to.equal(undefined);
    expect(kinds(manifest)).to.deep.equal(['config', 'layer', 'layer']);
    expect(manifest.references[1]).to.deep.equal({ kind: 'layer', ...describeContent('layer 0'), required: true });
    expect(manifest.layers).to.deep.equal([describeContent('layer 0'), describeContent('layer 1')]);
  });

  it('an index, whose artifact type is never that of a config', () => {
    const manifest = parse(imageIndex(), OCI_IMAGE_INDEX);
    expect(manifest).to.include({
      mediaType: OCI_IMAGE_INDEX,
      kind: 'index',
      artifactType: undefined,
      config: undefined,
    });
    expect(kinds(manifest)).to.deep.equal(['manifest']);
    expect(parse(imageIndex({ artifactType: 'a/b' })).artifactType).to.equal('a/b');
  });

  it('an index of nothing, of indexes, and of blobs as BuildKit writes it', () => {
    expect(parse(imageIndex({ manifests: [] })).references).to.deep.equal([]);
    expect(parse(imageIndex({ manifests: null })).references).to.deep.equal([]);
    expect(
      kinds(parse(imageIndex({ manifests: [describeContent('i', { mediaType: OCI_IMAGE_INDEX })] }))),
    ).to.have.length(1);
    const cache = [
      describeContent('l'),
      describeContent('c', { mediaType: 'application/vnd.buildkit.cacheconfig.v0' }),
    ];
    expect(kinds(parse(imageIndex({ manifests: cache })))).to.deep.equal(['manifest', 'manifest']);
  });

  it('an image whose layers are empty, null or absent', () => {
    for (const layers of [[], null, undefined]) {
      expect(kinds(parse(imageManifest({ layers })))).to.deep.equal(['config']);
    }
  });

  it('an artifact whose config and only layer are the same empty blob, named once', () => {
    const manifest = parse(imageManifest({ artifactType: 'application/vnd.example', config: empty, layers: [empty] }));
    expect(manifest.artifactType).to.equal('application/vnd.example');
    expect(kinds(manifest)).to.deep.equal(['config']);
    expect(manifest.layers).to.have.length(1);
  });

  it('an artifact with an empty config and no artifact type, which then is that of the config', () => {
    expect(parse(imageManifest({ config: empty })).artifactType).to.equal(OCI_EMPTY);
    expect(parse(imageManifest({ config: empty, artifactType: '' })).artifactType).to.equal(OCI_EMPTY);
    expect(parse(imageManifest({ config: { ...empty, mediaType: '' } })).artifactType).to.equal(undefined);
  });

  it('foreign layers, which need not be there', () => {
    const layers = [
      describeContent('a', { mediaType: OCI_NONDISTRIBUTABLE_LAYER_TAR_GZIP, urls: ['https://example.com/a'] }),
      describeContent('b', { mediaType: DOCKER_FOREIGN_LAYER }),
      describeContent('c', { urls: ['https://example.com/c'] }),
      describeContent('d', { data: 'ZA==' }),
    ];
    const expected = ['config', 'layer (elsewhere)', 'layer (elsewhere)', 'layer', 'layer'];
    expect(kinds(parse(imageManifest({ layers })))).to.deep.equal(expected);
  });

  it('a blob that is a foreign and an ordinary layer at once, which must be there', () => {
    const layers = [describeContent('a', { mediaType: DOCKER_FOREIGN_LAYER }), describeContent('a')];
    expect(kinds(parse(imageManifest({ layers })))).to.deep.equal(['config', 'layer']);
  });

  it('a subject of an image and of an index, which may come later', () => {
    const subject = describeContent('subject', { mediaType: OCI_IMAGE_MANIFEST });
    for (const manifest of [parse(imageManifest({ subject })), parse(imageIndex({ subject }))]) {
      expect(manifest.subject).to.equal(digestOf('sha256', encode('subject')));
      expect(kinds(manifest).at(-1)).to.equal('subject (elsewhere)');
    }
    expect(parse(imageManifest({ subject: null })).subject).to.equal(undefined);
  });

  it('an index whose subject is one of its manifests, which must be there', () => {
    const subject = describeContent('image', { mediaType: OCI_IMAGE_MANIFEST });
    const manifest = parse(imageIndex({ subject }));
    expect(kinds(manifest)).to.deep.equal(['manifest']);
    expect(manifest.subject).to.equal(subject.digest);
  });

  it('descriptors with sha512, and both algorithms in one manifest', () => {
    const digest = digestOf('sha512', encode('x'));
    expect(
      parse(imageManifest({ layers: [describeContent('x'), describeContent('x', { digest })] })).references,
    ).to.have.length(3);
  });

  it('custom fields at any place', () => {
    const custom = { 'org.example': { nested: [{ deeply: [null, true, 1.5, 'x'] }] } };
    expect(parse(imageManifest({ ...custom, config: describeContent('c', custom) })).kind).to.equal('image');
    expect(parse(imageIndex(custom)).kind).to.equal('index');
  });

  it('images and lists of Docker, schema 2', () => {
    const image = imageManifest({
      mediaType: DOCKER_MANIFEST,
      config: describeContent('c', { mediaType: DOCKER_CONFIG }),
      layers: [describeContent('l', { mediaType: DOCKER_LAYER })],
    });
    expect(parse(image, DOCKER_MANIFEST)).to.include({
      kind: 'image',
      mediaType: DOCKER_MANIFEST,
      artifactType: DOCKER_CONFIG,
    });
    expect(parse(imageIndex({ mediaType: DOCKER_MANIFEST_LIST }), DOCKER_MANIFEST_LIST).kind).to.equal('index');
  });

  it('the media type of the body where the request has none', () => {
    expect(parse(imageManifest({ mediaType: DOCKER_MANIFEST }), '').mediaType).to.equal(DOCKER_MANIFEST);
    expect(parse(imageManifest({ mediaType: DOCKER_MANIFEST })).mediaType).to.equal(DOCKER_MANIFEST);
  });

  it('the media type of the request where the body has none, and ignores its parameters', () => {
    for (const mediaType of [undefined, null, '']) {
      expect(parse(imageManifest({ mediaType }), OCI_IMAGE_MANIFEST).mediaType).to.equal(OCI_IMAGE_MANIFEST);
    }
    expect(parse(imageManifest(), `${OCI_IMAGE_MANIFEST.toUpperCase()}; charset=utf-8`).mediaType).to.equal(
      OCI_IMAGE_MANIFEST,
    );
  });

  it('a manifest that names no media type anywhere, by its shape', () => {
    expect(parse(imageManifest({ mediaType: undefined })).mediaType).to.equal(OCI_IMAGE_MANIFEST);
    expect(parse(imageIndex({ mediaType: undefined })).mediaType).to.equal(OCI_IMAGE_INDEX);
  });

  it('media types that it does not know, by their shape', () => {
    const mediaType = 'application/vnd.example.manifest+json';
    expect(parse(imageManifest({ mediaType }), mediaType)).to.include({ kind: 'image', mediaType });
    expect(parse(imageIndex({ mediaType }), mediaType)).to.include({ kind: 'index', mediaType });
    expect(parse(imageManifest({ mediaType: undefined }), 'application/json').mediaType).to.equal('application/json');
  });

  it('white space around and within the document', () => {
    expect(parse(`\n ${JSON.stringify(imageManifest(), null, '\t')}\r\n`).kind).to.equal('image');
  });

  it('escaped quotes and brackets in strings', () => {
    const annotations = { 'a"b': '\\', 'c\\': '"}]{[', '\\"': '\\\\"' };
    expect(parse(imageManifest({ annotations })).annotations).to.deep.equal(annotations);
  });

  it('a manifest of nearly 4 MiB of annotations', () => {
    const annotations = Object.fromEntries(Array.from({ length: 390 }, (_, i) => [`a${i}`, 'x'.repeat(10_000)]));
    expect(Object.keys(parse(imageManifest({ annotations })).annotations ?? {})).to.have.length(390);
  });

  it('the bytes without changing them', () => {
    const bytes = encode(imageManifest());
    const before = Buffer.from(bytes);
    parseManifest(bytes, undefined, limits);
    expect(bytes.equals(before)).to.equal(true);
  });
});

describe('oci/manifest refuses', () => {
  const invalid = (title: string, document: object | string, message: RegExp, contentType?: string): void => {
    it(title, () => expectFailure(() => parse(document, contentType), 'ManifestInvalid', message));
  };
  const image = JSON.stringify(imageManifest());

  invalid('an empty body', '', /not valid JSON/);
  invalid('a document that is not JSON', '{', /not valid JSON/);
  invalid('two documents in one body', `${image}${image}`, /not valid JSON/);
  for (const document of ['null', '[]', '"a"', '1'])
    invalid(`a document that is ${document}`, document, /^manifest is not an object/);
  invalid('an object that is empty', {}, /^schemaVersion is not 2/);
  invalid('a manifest with neither config nor manifests', { schemaVersion: 2 }, /neither a config nor manifests/);
  invalid('a byte order mark', `\ufeff${image}`, /byte order mark/);

  it('bytes that are not UTF-8', () => {
    const bytes = Buffer.concat([Buffer.from('{"a":"'), Buffer.of(0xc0, 0xaf), Buffer.from('"}')]);
    expectFailure(() => parseManifest(bytes, undefined, limits), 'ManifestInvalid', /UTF-8/);
  });

  for (const mediaType of [DOCKER_MANIFEST_SCHEMA1, DOCKER_MANIFEST_SCHEMA1_SIGNED]) {
    invalid(
      `Docker schema 1 by its type ${mediaType}`,
      { schemaVersion: 1, fsLayers: [] },
      /schema 1 is not accepted/,
      mediaType,
    );
  }
  invalid(
    'Docker schema 1 by its version',
    { schemaVersion: 1, name: 'a', tag: 'b', fsLayers: [], history: [] },
    /schema 1 is not accepted/,
  );
  invalid('a schema version of another kind', imageManifest({ schemaVersion: '2' }), /^schemaVersion is not 2/);

  invalid(
    'a Content-Type that the body contradicts',
    imageManifest(),
    /^mediaType is .*manifest.v1\+json, but the Content-Type/,
    DOCKER_MANIFEST,
  );
  invalid(
    'a Content-Type of an index for an image',
    imageManifest({ mediaType: undefined }),
    /^config does not belong in an index/,
    OCI_IMAGE_INDEX,
  );
  invalid(
    'a Content-Type of an image for an index',
    imageIndex({ mediaType: undefined }),
    /^manifests does not belong in an image/,
    OCI_IMAGE_MANIFEST,
  );
  invalid('a Content-Type that is none', imageManifest(), /^Content-Type is not a media type/, 'json');
  invalid(
    'a media type in the body that is none',
    imageManifest({ mediaType: 'a/b\r\nX: y' }),
    /^mediaType is not a media type/,
  );
  invalid('a media type in the body that is a number', imageManifest({ mediaType: 1 }), /^mediaType is not a string/);

  invalid('an image that is also an index', imageManifest({ manifests: [] }), /^manifests does not belong/);
  invalid('an index that is also an image', imageIndex({ config: empty }), /^config does not belong/);
  invalid('an index with layers', imageIndex({ layers: [] }), /^layers does not belong/);
  invalid(
    'both shapes under an unknown type',
    imageIndex({ mediaType: undefined, layers: [] }),
    /does not belong/,
    'a/b',
  );
  invalid('an image that is also of schema 1', imageManifest({ fsLayers: [] }), /^fsLayers does not belong/);

  invalid('an image without a config', imageManifest({ config: undefined }), /^config is missing/);
  invalid('an image whose config is null', imageManifest({ config: null }), /^config is missing/);
  invalid('an index without manifests', imageIndex({ manifests: undefined }), /^manifests is missing/);
  invalid('layers that are no array', imageManifest({ layers: {} }), /^layers is not an array/);
  invalid('a layer that is no descriptor', imageManifest({ layers: [empty, 1] }), /^layers\[1\] is not an object/);
  invalid(
    'a bad digest deep in the list, by its place',
    imageManifest({ layers: [empty, empty, empty, { ...empty, digest: 'x' }] }),
    /^layers\[3\]\.digest is invalid/,
  );
  invalid('a subject that is a bare digest', imageManifest({ subject: 'sha256:00' }), /^subject is not an object/);
  invalid(
    'annotations whose values are no strings',
    imageManifest({ annotations: { a: null } }),
    /^annotations\["a"\] is not a string/,
  );
  invalid('an artifact type that is no string', imageManifest({ artifactType: {} }), /^artifactType is not a string/);
  invalid(
    'one digest with two sizes',
    imageManifest({ layers: [describeContent('x'), describeContent('x', { size: 2 })] }),
    /^layers\[1\]\.size is 2, but the same digest has 1/,
  );

  for (const name of ['schemaVersion', 'mediaType', 'config', 'layers']) {
    invalid(`the name ${name} twice`, image.replace(/}$/, `,"${name}":null}`), new RegExp(`the name "${name}" twice`));
  }
  invalid(
    'a name twice that is escaped the second time',
    image.replace(/}$/, ',"\\u006dediaType":"a/b"}'),
    /"mediaType" twice/,
  );
  invalid(
    'a name twice in a descriptor',
    image.replace('"size":', '"digest" : "sha256:00", "size":'),
    /"digest" twice/,
  );
  invalid(
    'a second spelling of a name that Go would take for it',
    image.replace(/}$/, ',"Layers":[]}'),
    /spells layers as "Layers"/,
  );

  it('a manifest with too many bytes', () => {
    const bytes = encode(imageManifest());
    const exact = { ...limits, maxBytes: bytes.length };
    expect(parseManifest(bytes, undefined, exact).kind).to.equal('image');
    const fewer = { ...limits, maxBytes: bytes.length - 1 };
    expectFailure(() => parseManifest(bytes, undefined, fewer), 'ManifestTooLarge', /at most/);
  });

  it('a manifest that is nested too deeply', () => {
    const nest = (depth: number): string => image.replace(/}$/, `,"a":${'['.repeat(depth)}${']'.repeat(depth)}}`);
    expect(parse(nest(limits.maxDepth - 1)).kind).to.equal('image');
    expectFailure(() => parse(nest(limits.maxDepth)), 'ManifestInvalid', /more than 16 levels/);
  });

  it('a manifest with too many descriptors', () => {
    const layers = Array.from({ length: limits.maxDescriptors - 1 }, () => empty);
    expect(parse(imageManifest({ layers })).layers).to.have.length(limits.maxDescriptors - 1);
    expectFailure(() => parse(imageManifest({ layers: [...layers, empty] })), 'ManifestInvalid', /more than 1000/);
    expectFailure(() => parse(imageManifest({ layers, subject: empty })), 'ManifestInvalid', /more than 1000/);
    expectFailure(
      () => parse(imageIndex({ manifests: [...layers, empty, empty] })),
      'ManifestInvalid',
      /more than 1000/,
    );
  });

  it('hostile documents in linear time', () => {
    const hostile = ['[', '{"a":', '"', '\\', '"\\', '{}', '"" ', ' ', '1', '-', '"":'];
    for (const unit of hostile) {
      const body = unit.repeat(Math.floor(1_000_000 / unit.length));
      expectQuick(() => parse(body));
      expectQuick(() => parse(`{"a":"${body}`));
      expectQuick(() => parse(`{"a"${body}`));
    }
  });

  it('mutated manifests with a RegistryError and nothing else', () => {
    const documents = [imageManifest({ subject: empty, annotations: { a: 'b' } }), imageIndex()].map((d) =>
      JSON.stringify(d),
    );
    const piece = fc.oneof(
      fc.constantFrom(
        '',
        '{',
        '}',
        '[',
        ']',
        '"',
        ':',
        ',',
        'null',
        '1e400',
        '-1',
        '\\',
        '\\u0000',
        '\ud800',
        '"config":',
        '{}',
      ),
      fc.string({ unit: 'binary', maxLength: 4 }),
    );
    fc.assert(
      fc.property(fc.constantFrom(...documents), fc.nat(), fc.nat(12), piece, (text, position, removed, inserted) => {
        const at = position % text.length;
        const error = thrownBy(() => parse(text.slice(0, at) + inserted + text.slice(at + removed)));
        if (error !== undefined) expect(error).to.be.instanceOf(RegistryError);
      }),
      { numRuns: 3000 },
    );
  });

  it('manifests with any value at any place, with a RegistryError and nothing else', () => {
    const name = fc.constantFrom(
      'schemaVersion',
      'mediaType',
      'artifactType',
      'config',
      'layers',
      'manifests',
      'subject',
      'annotations',
    );
    const property = fc.constantFrom(
      'mediaType',
      'digest',
      'size',
      'urls',
      'data',
      'annotations',
      'platform',
      'artifactType',
    );
    fc.assert(
      fc.property(name, property, fc.jsonValue(), fc.boolean(), (field, part, value, inDescriptor) => {
        const document = inDescriptor
          ? imageManifest({ layers: [describeContent('x', { [part]: value })] })
          : imageManifest({ [field]: value });
        const error = thrownBy(() => parse(document));
        if (error !== undefined) expect(error).to.be.instanceOf(RegistryError);
      }),
      { numRuns: 2000 },
    );
  });

  it('arbitrary bytes with a RegistryError and nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.option(fc.string(), { nil: undefined }), (bytes, contentType) => {
        expect(thrownBy(() => parseManifest(bytes, contentType, limits))).to.be.instanceOf(RegistryError);
      }),
    );
  });
});
