// What is there to be named by requests: pushed before the fuzz begins, and again from time to time, as some of it is deleted.
import { expect } from 'chai';
import { bytesOf, descriptorOf, digestOf, imageOf, IMAGE, INDEX, indexOf, putManifest } from '../http/content.js';
import type { TestServer } from '../support/server.js';

export const REPOSITORIES = ['fuzz/model', 'fuzz/other', 'fuzz'] as const;
export const BLOBS = [Buffer.alloc(0), Buffer.from('{}'), bytesOf('fuzz small', 100), bytesOf('fuzz', 70_000)] as const;
const [, CONFIG = Buffer.alloc(0)] = BLOBS;

export const IMAGES = [
  imageOf(descriptorOf(CONFIG, 'application/vnd.oci.image.config.v1+json'), []),
  imageOf(
    descriptorOf(CONFIG, 'application/vnd.oci.empty.v1+json'),
    BLOBS.map((bytes) => descriptorOf(bytes, 'application/octet-stream')),
    { artifactType: 'application/vnd.fuzz', annotations: { a: 'b' } },
  ),
] as const;
const [FIRST = Buffer.alloc(0)] = IMAGES;
export const INDEXES = [
  indexOf([descriptorOf(FIRST, IMAGE)]),
  indexOf([], { subject: descriptorOf(FIRST, IMAGE), artifactType: 'application/vnd.fuzz' }),
] as const;
export const TAGS = ['v1', 'v2', 'latest'] as const;
export const DIGESTS = [...BLOBS, ...IMAGES, ...INDEXES].map((bytes) => digestOf(bytes));

/** Pushes all of it, and pulls it: the registry works. @throws AssertionError if it doesn't. */
export async function pushScene(server: TestServer): Promise<void> {
  for (const repository of REPOSITORIES) {
    for (const bytes of BLOBS) {
      const target = `/v2/${repository}/blobs/uploads/?digest=${digestOf(bytes)}`;
      const pushed = await server.request('POST', target, { body: bytes });
      expect(pushed.status, await pushed.text()).to.equal(201);
      const pulled = await server.request('GET', `/v2/${repository}/blobs/${digestOf(bytes)}`);
      expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes), 'the blob that was pushed').to.equal(true);
    }
    for (const [index, tag] of TAGS.entries()) {
      const [manifest, type] = (
        [
          [FIRST, IMAGE],
          [IMAGES[1], IMAGE],
          [INDEXES[0], INDEX],
        ] as const
      )[index] ?? [FIRST, IMAGE];
      const put = await putManifest(server, repository, tag, manifest, type);
      expect(put.status, await put.text()).to.equal(201);
      const got = await server.request('GET', `/v2/${repository}/manifests/${tag}`);
      expect(Buffer.from(await got.arrayBuffer()).equals(manifest), 'the manifest that was pushed').to.equal(true);
    }
  }
}
