import { expect } from 'chai';
import fc from 'fast-check';
import {
  acceptsMediaType,
  DOCKER_FOREIGN_LAYER,
  DOCKER_LAYER,
  DOCKER_MANIFEST,
  DOCKER_MANIFEST_LIST,
  DOCKER_MANIFEST_SCHEMA1_SIGNED,
  isForeignLayer,
  isSchema1,
  manifestKindOf,
  OCI_IMAGE_INDEX,
  OCI_IMAGE_MANIFEST,
  OCI_LAYER_TAR_GZIP,
  OCI_NONDISTRIBUTABLE_LAYER_TAR_ZSTD,
  parseMediaType,
} from '../../../src/oci/media-types.js';
import { expectFailure, expectQuick } from './failure.js';

describe('oci/media-types', () => {
  it('drops parameters and case from a media type', () => {
    expect(parseMediaType(' Application/VND.oci.image.manifest.v1+JSON ; charset=utf-8')).to.equal(OCI_IMAGE_MANIFEST);
    expect(parseMediaType('text/plain')).to.equal('text/plain');
  });

  for (const text of [
    '',
    ';',
    'json',
    'a/',
    '/a',
    'a/b/c',
    'a b/c',
    'a/b\r\nX: y',
    '*/*',
    '+a/b',
    `${'a'.repeat(128)}/b`,
    'é/b',
  ]) {
    it(`refuses ${JSON.stringify(text.slice(0, 20))} as a media type`, () =>
      expectFailure(() => parseMediaType(text), 'MediaTypeUnsupported'));
  }

  it('gives media types that are safe in a header, or none', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string(), (type, subtype) => {
        try {
          expect(parseMediaType(`${type}/${subtype}`)).to.match(/^[!-~]{3,255}$/);
        } catch (error) {
          expect(error).to.have.property('failure', 'MediaTypeUnsupported');
        }
      }),
    );
  });

  it('tells images from indexes by the types that it knows', () => {
    expect([OCI_IMAGE_MANIFEST, DOCKER_MANIFEST].map(manifestKindOf)).to.deep.equal(['image', 'image']);
    expect([OCI_IMAGE_INDEX, DOCKER_MANIFEST_LIST].map(manifestKindOf)).to.deep.equal(['index', 'index']);
    expect(manifestKindOf('application/json')).to.equal(undefined);
    expect(isSchema1(DOCKER_MANIFEST_SCHEMA1_SIGNED)).to.equal(true);
    expect(isSchema1(DOCKER_MANIFEST)).to.equal(false);
  });

  it('knows foreign layers in any compression and encryption', () => {
    expect(isForeignLayer(DOCKER_FOREIGN_LAYER)).to.equal(true);
    expect(isForeignLayer(OCI_NONDISTRIBUTABLE_LAYER_TAR_ZSTD)).to.equal(true);
    expect(isForeignLayer(`${OCI_NONDISTRIBUTABLE_LAYER_TAR_ZSTD}+encrypted`)).to.equal(true);
    expect(isForeignLayer(DOCKER_LAYER)).to.equal(false);
    expect(isForeignLayer(OCI_LAYER_TAR_GZIP)).to.equal(false);
  });

  const accepted: [header: string | undefined, accepts: boolean][] = [
    [undefined, true],
    ['', true],
    [' , ', true],
    ['*/*', true],
    ['*', true],
    ['*; q=.2, */*; q=.2', true],
    ['application/*', true],
    ['text/*', false],
    ['text/html', false],
    [`text/html, ${OCI_IMAGE_INDEX}`, true],
    [`text/html,${OCI_IMAGE_INDEX.toUpperCase()};q=0.1`, true],
    [`${OCI_IMAGE_INDEX};q=0, */*`, false],
    [`*/*, ${OCI_IMAGE_INDEX} ; Q=0.000`, false],
    ['application/*;q=0, */*', false],
    [`application/*;q=0, ${OCI_IMAGE_INDEX}`, true],
    ['*/*;q=0', false],
    [`${OCI_IMAGE_INDEX};q=nonsense`, true],
    [`${OCI_IMAGE_INDEX};version=1`, true],
    [`${OCI_IMAGE_INDEX};q=0,${OCI_IMAGE_INDEX}`, true],
    [`${OCI_IMAGE_MANIFEST}, ${DOCKER_MANIFEST}`, false],
  ];
  for (const [header, accepts] of accepted) {
    it(`finds that an Accept of ${header === undefined ? 'nothing' : JSON.stringify(header)} ${accepts ? 'takes' : 'refuses'} an index`, () =>
      expect(acceptsMediaType(header, OCI_IMAGE_INDEX)).to.equal(accepts));
  }

  it('reads hostile Accept headers in linear time', () => {
    for (const unit of [',', ';q=', 'a/b;', '*/*;q=0,', ' ']) {
      expectQuick(() => acceptsMediaType(unit.repeat(1_000_000), OCI_IMAGE_INDEX));
    }
    expectQuick(() => parseMediaType(`${'a'.repeat(5_000_000)}/`));
  });
});
