import { expect } from 'chai';
import { RegistryError } from '../../src/errors.js';
import { parseManifest } from '../../src/oci/manifest.js';
import { parseTag, type Reference } from '../../src/oci/name.js';
import { ACTOR, type Rooms, Site } from '../support/rooms.js';
import { bytesOf, NAME, outcome, push, sha256 } from './races-scene.js';

const OCI = 'application/vnd.oci.image.manifest.v1+json';
const DOCKER = 'application/vnd.docker.distribution.manifest.v2+json';
const LIMITS = { maxBytes: 65_536, maxDepth: 64, maxDescriptors: 1000 };
const TAG = parseTag('v1');
const BYTES = bytesOf(1_000);
const BLOB = sha256(BYTES);

/** The manifest of a version, which names no bytes but the blob; without a media type of its own unless it is asked for. */
function payloadOf(version: number, mediaType?: string): Buffer {
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: BLOB, size: BYTES.length };
  const annotations = { version: String(version) };
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers: [], annotations }));
}

/** Two processes that hear nothing of each other: what one has acknowledged must be what the other one reads. */
describe('races of what is remembered', () => {
  let site: Site;
  let one: Rooms;
  let two: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    one = site.open();
    two = site.open();
    await push(one, BYTES);
  });
  afterEach(async () => await site.dispose());

  async function put(rooms: Rooms, version: number, contentType = OCI): Promise<void> {
    const payload = payloadOf(version);
    const manifest = parseManifest(payload, contentType, LIMITS);
    const push = { repository: NAME, digest: sha256(payload), payload, manifest, tags: [TAG] };
    await rooms.registry.manifests.put(push, ACTOR);
  }
  const digestOf = (version: number) => sha256(payloadOf(version));
  /** What both kinds of read say: a digest with its type, or why there is none. */
  async function seen(rooms: Rooms, reference: Reference): Promise<string[]> {
    const { manifests } = rooms.registry;
    const reads = [manifests.get(NAME, reference), manifests.getPayload(NAME, reference)];
    return await Promise.all(
      reads.map((read) => read.then(({ digest, mediaType }) => `${digest} ${mediaType}`, failureOf)),
    );
  }
  const failureOf = (error: unknown) => (error instanceof RegistryError ? error.failure : Promise.reject(error));
  const twice = (text: string) => [text, text];

  it('a tag that another process moved is read as it was told', async () => {
    await put(one, 1);
    expect(await seen(two, { tag: TAG })).to.deep.equal(twice(`${digestOf(1)} ${OCI}`));
    await put(one, 2);
    expect(await seen(two, { tag: TAG })).to.deep.equal(twice(`${digestOf(2)} ${OCI}`));
  });

  it('a tag that another process removed is gone', async () => {
    await put(one, 1);
    await seen(two, { tag: TAG });
    await one.registry.tags.remove(NAME, TAG, ACTOR);
    expect(await seen(two, { tag: TAG })).to.deep.equal(twice('ManifestUnknown'));
  });

  it('a manifest that another process removed is gone, and so is its tag', async () => {
    await put(one, 1);
    await seen(two, { tag: TAG });
    await seen(two, { digest: digestOf(1) });
    await one.registry.manifests.remove(NAME, digestOf(1), ACTOR);
    expect(await seen(two, { tag: TAG })).to.deep.equal(twice('ManifestUnknown'));
    expect(await seen(two, { digest: digestOf(1) })).to.deep.equal(twice('ManifestUnknown'));
  });

  it('a manifest that another process pushed again with another type has it', async () => {
    await put(one, 1);
    await seen(two, { digest: digestOf(1) });
    await put(one, 1, DOCKER);
    expect(await seen(two, { digest: digestOf(1) })).to.deep.equal(twice(`${digestOf(1)} ${DOCKER}`));
  });

  it('a blob that another process removed is gone', async () => {
    const { blobs } = two.registry;
    await blobs.get(NAME, BLOB);
    await blobs.getOpenable(NAME, BLOB);
    await one.registry.blobs.remove(NAME, BLOB, ACTOR);
    expect(await outcome(blobs.get(NAME, BLOB))).to.equal('BlobUnknown');
    expect(await outcome(blobs.getOpenable(NAME, BLOB))).to.equal('BlobUnknown');
  });

  it('what was not there is seen as soon as it is', async () => {
    let absent = true;
    const polling = (async () => {
      // As often as can be, so that a question is under way when the answer to the push comes.
      while (absent) await seen(two, { tag: TAG });
    })();
    await put(one, 1);
    const after = await seen(two, { tag: TAG });
    absent = false;
    await polling;
    expect(after).to.deep.equal(twice(`${digestOf(1)} ${OCI}`));
  });

  it('nobody who reads all the time sees less than was acknowledged when he asked', async () => {
    const rounds = 20;
    let acknowledged = 0;
    const versions = new Map(Array.from({ length: rounds + 1 }, (_, version) => [String(digestOf(version)), version]));
    await put(one, 0);
    let reads = 0;
    const stale: string[] = [];
    const reader = async (rooms: Rooms) => {
      while (acknowledged < rounds) {
        const least = acknowledged;
        const { digest } = await rooms.registry.manifests.get(NAME, { tag: TAG });
        const version = versions.get(digest) ?? -1;
        if (version < least) stale.push(`${version} after ${least}`);
        reads++;
      }
    };
    const readers = [one, two, site.open(), two].map(reader);
    for (let version = 1; version <= rounds; version++) {
      await put(version % 2 === 0 ? one : two, version);
      acknowledged = version;
    }
    await Promise.all(readers);
    expect(stale).to.deep.equal([]);
    expect(reads).to.be.greaterThan(rounds);
  });
});
