import { digestOf, type Content } from './bytes.js';
import { send } from './exchange.js';
import { type Traffic, Upload } from './upload.js';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const EMPTY = Buffer.from('{}');

/** What became of a tag: digests that were sent, and the last that was acknowledged. */
export interface TagStory {
  readonly repository: string;
  readonly tag: string;
  acknowledged: string | undefined;
  /** Sent after the acknowledged one, without an answer. */
  readonly unheard: Set<string>;
}

/** Puts a manifest over layers that are there, again until it is acknowledged. */
export async function putManifest(traffic: Traffic, story: TagStory, layers: readonly Content[]): Promise<void> {
  const { repository, tag } = story;
  const config = digestOf(EMPTY);
  const body = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST,
      artifactType: 'application/vnd.example.weights',
      config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: config, size: EMPTY.length },
      layers: layers.map(({ digest, size }) => ({ mediaType: 'application/octet-stream', digest, size })),
    }),
  );
  const digest = digestOf(body);
  const upload = new Upload(traffic, repository, layers[0] as Content);
  for (;;) {
    await traffic.gate.pass();
    const post = await send(traffic.host, 'POST', `/v2/${repository}/blobs/uploads/?digest=${config}`, { body: EMPTY });
    if (post?.status === 201) break;
    await upload.breathe(post);
  }
  for (;;) {
    await traffic.gate.pass();
    story.unheard.add(digest);
    const headers = { 'content-type': MANIFEST };
    const put = await send(traffic.host, 'PUT', `/v2/${repository}/manifests/${tag}`, { headers, body });
    if (put?.status === 201) {
      story.acknowledged = digest;
      story.unheard.clear();
      traffic.acknowledged();
      return;
    }
    await upload.breathe(put);
  }
}
