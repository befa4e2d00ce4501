import { expect } from 'chai';
import fc from 'fast-check';
import type { Descriptor } from '../../../src/oci/descriptor.js';
import { digestOf } from '../../../src/oci/digest.js';
import {
  EMPTY_CONFIG,
  EMPTY_CONFIG_BYTES,
  type ManifestParts,
  buildManifest,
  describeBytes,
} from '../../../src/oci/manifest-builder.js';
import { parseManifest } from '../../../src/oci/manifest.js';
import { OCI_IMAGE_MANIFEST } from '../../../src/oci/media-types.js';
import { expectFailure } from './failure.js';
import { encode, limits } from './samples.js';

const artifactType = 'application/vnd.example';
const type = 'application/vnd.example.layer';
const layer = describeBytes(type, encode('layer'));
const config = describeBytes('application/vnd.example.config+json', encode('config'));
const subject = describeBytes(OCI_IMAGE_MANIFEST, encode('subject'));

const textOf = (parts: ManifestParts): string => Buffer.from(buildManifest(parts)).toString();
const refuse = (parts: unknown, field: RegExp): void =>
  expectFailure(() => buildManifest(parts as ManifestParts), 'ManifestInvalid', field);

describe('oci/manifest-builder', () => {
  it('writes every field in the order of the specification, without a space', () => {
    const full: Descriptor = {
      artifactType,
      platform: { os: 'linux' },
      data: 'bGF5ZXI=',
      annotations: { b: '2', a: '1' },
      urls: ['https://example.com/layer'],
      size: layer.size,
      digest: layer.digest,
      mediaType: layer.mediaType,
    };
    const { digest } = layer;
    expect(textOf({ annotations: { z: '', a: 'x' }, subject, layers: [full], config, artifactType })).to.equal(
      `{"schemaVersion":2,"mediaType":"${OCI_IMAGE_MANIFEST}","artifactType":"${artifactType}",` +
        `"config":{"mediaType":"${config.mediaType}","digest":"${config.digest}","size":6},` +
        `"layers":[{"mediaType":"${type}","digest":"${digest}","size":5,"urls":["https://example.com/layer"],` +
        `"annotations":{"a":"1","b":"2"},"data":"bGF5ZXI=","platform":{"os":"linux"},"artifactType":"${artifactType}"}],` +
        `"subject":{"mediaType":"${OCI_IMAGE_MANIFEST}","digest":"${subject.digest}","size":7},` +
        `"annotations":{"a":"x","z":""}}`,
    );
  });

  it('puts the empty descriptor where there is no config and no layer', () => {
    expect(EMPTY_CONFIG.digest).to.equal(digestOf('sha256', EMPTY_CONFIG_BYTES));
    const empty =
      '{"mediaType":"application/vnd.oci.empty.v1+json",' +
      '"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30="}';
    expect(textOf({ artifactType, layers: [] })).to.equal(
      `{"schemaVersion":2,"mediaType":"${OCI_IMAGE_MANIFEST}","artifactType":"${artifactType}",` +
        `"config":${empty},"layers":[${empty}]}`,
    );
  });

  it('adds nothing that was not given, so that the same parts are the same bytes', () => {
    const parts = { artifactType, layers: [layer], annotations: {} };
    expect(textOf(parts)).to.equal(textOf({ artifactType, layers: [layer] }));
    expect(textOf(parts)).not.to.contain('annotations');
    expect(textOf({ layers: [layer], annotations: { b: '', a: '' }, artifactType })).to.equal(
      textOf({ artifactType, annotations: { a: '', b: '' }, layers: [layer] }),
    );
  });

  it('escapes as Go does, and orders names by their bytes', () => {
    const annotations = { '10': '<b>&\u2028', '9': '"\\\n', '\u{1f600}': '\u007f', '\uffee': 'é' };
    expect(textOf({ artifactType, layers: [layer], annotations })).to.contain(
      '"annotations":{"10":"\\u003cb\\u003e\\u0026\\u2028","9":"\\"\\\\\\n","\uffee":"é","\u{1f600}":"\u007f"}',
    );
  });

  it('leaves out what no specification knows of a descriptor', () => {
    const odd = { ...layer, name: 'x', other: 1 } as Descriptor;
    expect(textOf({ artifactType, layers: [odd] })).to.equal(textOf({ artifactType, layers: [layer] }));
  });

  it('refuses an empty config without an artifact type, as oras does', () => {
    refuse({ layers: [layer] }, /artifactType is missing/);
    refuse({ layers: [layer], artifactType: '' }, /artifactType is missing/);
    refuse({ layers: [layer], config: EMPTY_CONFIG }, /artifactType is missing/);
    expect(textOf({ layers: [layer], config })).not.to.contain('artifactType');
  });

  it('refuses types that are none', () => {
    for (const wrong of ['weights', 'a/b;c=d', ' a/b', 'a/b/c', 'a/ü', `a/${'x'.repeat(128)}`]) {
      refuse({ layers: [layer], artifactType: wrong }, /^artifactType is not a media type/);
      refuse({ layers: [layer], config: { ...config, mediaType: wrong } }, /^config\.mediaType is not a media type/);
    }
    refuse({ layers: [{ ...layer, mediaType: '' }], artifactType }, /^layers\[0\]\.mediaType/);
    expect(textOf({ layers: [layer], artifactType: 'application/vnd.Example' })).to.contain('vnd.Example');
  });

  it('refuses annotations that are no strings', () => {
    for (const value of [5, null, undefined, {}, ['x'], 'a\u0000', '\ud800']) {
      refuse({ artifactType, layers: [layer], annotations: { a: value } }, /^annotations\["a"\]/);
      refuse({ artifactType, layers: [{ ...layer, annotations: { a: value } }] }, /^layers\[0\]\.annotations\["a"\]/);
    }
  });

  it('refuses a time of creation that is none', () => {
    const created = (text: string) => ({
      artifactType,
      layers: [layer],
      annotations: { 'org.opencontainers.image.created': text },
    });
    for (const text of ['', 'today', '2024-01-01', '2024-13-01T00:00:00Z', '2024-01-01T00:00:00']) {
      refuse(created(text), /created.*RFC 3339/);
    }
    for (const text of ['2024-01-01T00:00:00Z', '2024-01-01T00:00:00.5+02:00']) {
      expect(textOf(created(text))).to.contain(text);
    }
  });

  it('refuses descriptors that our parser would refuse, and sizes that contradict each other', () => {
    refuse({ artifactType, layers: [{ ...layer, digest: 'sha256:x' }] }, /^layers\[0\]\.digest/);
    refuse({ artifactType, layers: [layer, { ...layer, size: -1 }] }, /^layers\[1\]\.size/);
    refuse({ artifactType, layers: [layer, { ...layer, size: 6 }] }, /^layers\[1\]\.size is 6/);
    refuse({ artifactType, layers: [layer], subject: { ...subject, digest: undefined } }, /^subject\.digest/);
    refuse({ artifactType, layers: [{ ...layer, data: 'e30=' }] }, /^layers\[0\]\.data/);
  });

  it('is read back by our parser as what it was given', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((value) => !value.includes('\u0000'));
    const annotations = fc.dictionary(text, text, { maxKeys: 5 }).map((made) => ({ ...made }));
    const descriptor = fc
      .tuple(fc.string({ minLength: 1 }), annotations)
      .map(([content, own]) => ({ ...describeBytes(type, encode(content)), annotations: own }));
    fc.assert(
      fc.property(fc.array(descriptor, { minLength: 1, maxLength: 4 }), annotations, (layers, own) => {
        const bytes = buildManifest({ artifactType, config, layers, subject, annotations: own });
        const manifest = parseManifest(bytes, undefined, limits);
        expect(manifest).to.deep.include({ artifactType, config, subject: subject.digest });
        expect(manifest.annotations ?? {}).to.deep.equal(own);
        const read = manifest.layers.map((one) => ({ ...one, annotations: one.annotations ?? {} }));
        expect(read).to.deep.equal(layers);
        expect(Buffer.from(bytes).equals(buildManifest({ ...manifest, subject } as ManifestParts))).to.equal(true);
      }),
    );
  });
});
