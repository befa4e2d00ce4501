// What the clients of the soak push: blobs out of one pool, so that all share and delete the same ones, and manifests.
import { createHash } from 'node:crypto';

export const IMAGE = 'application/vnd.oci.image.manifest.v1+json';
export const INDEX = 'application/vnd.oci.image.index.v1+json';

export interface Blob {
  readonly digest: string;
  readonly bytes: Buffer;
}

export interface Made {
  readonly digest: string;
  readonly payload: Buffer;
  readonly mediaType: string;
  readonly blobs: readonly Blob[];
  readonly children: readonly Made[];
}

export const digestOf = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Draws numbers, the same for the same seed. */
export function drawFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Small ones, whose bytes lie in their rows, and larger ones. */
export function makePool(size: number): readonly Blob[] {
  const draw = drawFrom(7);
  return Array.from({ length: size }, (_, index) => {
    const bytes = Buffer.alloc(index % 3 === 0 ? 100 + draw(4_000) : 40_000 + draw(200_000));
    for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(draw(2 ** 32), Math.min(at, bytes.length - 4));
    return { digest: digestOf(bytes), bytes };
  });
}

const descriptorOf = (mediaType: string, { digest, size }: { digest: string; size: number }) => ({
  mediaType,
  digest,
  size,
});

export const EMPTY: Blob = { digest: digestOf(Buffer.from('{}')), bytes: Buffer.from('{}') };

export function makeImage(layers: readonly Blob[], note: string, subject?: Made): Made {
  const content = {
    schemaVersion: 2,
    mediaType: IMAGE,
    artifactType: 'application/vnd.example.soak',
    config: descriptorOf('application/vnd.oci.empty.v1+json', { digest: EMPTY.digest, size: EMPTY.bytes.length }),
    layers: layers.map(({ digest, bytes }) => descriptorOf('application/octet-stream', { digest, size: bytes.length })),
    ...(subject && {
      subject: descriptorOf(subject.mediaType, { digest: subject.digest, size: subject.payload.length }),
    }),
    annotations: { note },
  };
  const payload = Buffer.from(JSON.stringify(content));
  return { digest: digestOf(payload), payload, mediaType: IMAGE, blobs: [EMPTY, ...layers], children: [] };
}

export function makeIndex(children: readonly Made[], note: string): Made {
  const content = {
    schemaVersion: 2,
    mediaType: INDEX,
    manifests: children.map(({ mediaType, digest, payload }) =>
      descriptorOf(mediaType, { digest, size: payload.length }),
    ),
    annotations: { note },
  };
  const payload = Buffer.from(JSON.stringify(content));
  return { digest: digestOf(payload), payload, mediaType: INDEX, blobs: [], children };
}
