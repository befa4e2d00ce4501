// What clients pushed, moved and deleted, and were told that it is so: an oracle over the loss of a database.
import { expect } from 'chai';
import {
  bytesOf,
  close,
  descriptorOf,
  digestOf,
  IMAGE,
  imageOf,
  INDEX,
  indexOf,
  openUpload,
  patch,
  pushBlob,
  putManifest,
  type TestDescriptor,
} from '../../http/content.js';
import type { TestServer } from '../../support/server.js';

const WEIGHTS = 'application/vnd.oci.image.layer.v1.tar';
const MiB = 1024 * 1024;

interface Release {
  readonly tag: string;
  readonly digest: string;
  readonly quantization: string | null;
}

export class Story {
  readonly #blobs = new Map<string, Buffer>();
  readonly #manifests = new Map<string, { bytes: Buffer; type: string }>();
  readonly #tags = new Map<string, string>();
  /** What was deleted, as paths. */
  readonly #gone = new Set<string>();
  readonly #referrers = new Map<string, Set<string>>();
  #session: { location: string; bytes: Buffer } | undefined;
  releases: Release[] = [];

  async #push(server: TestServer, repository: string, seed: string, size: number): Promise<TestDescriptor> {
    const bytes = bytesOf(seed, size);
    await pushBlob(server, repository, bytes);
    this.#blobs.set(`/v2/${repository}/blobs/${digestOf(bytes)}`, bytes);
    return descriptorOf(bytes, WEIGHTS);
  }

  /** In chunks, each of which is a segment. */
  async #pushChunks(server: TestServer, repository: string, seed: string, sizes: readonly number[]) {
    const bytes = bytesOf(
      seed,
      sizes.reduce((sum, size) => sum + size),
    );
    const location = await openUpload(server, repository);
    let at = 0;
    for (const size of sizes) {
      expect((await patch(server, location, bytes.subarray(at, at + size), at)).status).to.equal(202);
      at += size;
    }
    await this.#close(server, repository, location, bytes);
    return descriptorOf(bytes, WEIGHTS);
  }

  async #close(server: TestServer, repository: string, location: string, bytes: Buffer): Promise<void> {
    expect((await close(server, location, digestOf(bytes))).status).to.equal(201);
    this.#blobs.set(`/v2/${repository}/blobs/${digestOf(bytes)}`, bytes);
  }

  async #mount(server: TestServer, from: string, repository: string, digest: string): Promise<void> {
    const path = `/v2/${repository}/blobs/uploads/?mount=${digest}&from=${from}`;
    expect((await server.request('POST', path)).status).to.equal(201);
    const bytes = this.#blobs.get(`/v2/${from}/blobs/${digest}`);
    if (bytes) this.#blobs.set(`/v2/${repository}/blobs/${digest}`, bytes);
  }

  async put(server: TestServer, repository: string, tag: string | undefined, bytes: Buffer, type = IMAGE) {
    const digest = digestOf(bytes);
    const put = await putManifest(server, repository, tag ?? digest, bytes, type);
    expect(put.status, await put.text()).to.equal(201);
    this.#manifests.set(`/v2/${repository}/manifests/${digest}`, { bytes, type });
    this.#gone.delete(`/v2/${repository}/manifests/${digest}`);
    if (tag === undefined) return digest;
    this.#tags.set(`/v2/${repository}/manifests/${tag}`, digest);
    this.#gone.delete(`/v2/${repository}/manifests/${tag}`);
    return digest;
  }

  async #image(
    server: TestServer,
    repository: string,
    tag: string | undefined,
    seed: string,
    layers: TestDescriptor[],
  ) {
    const config = await this.#push(server, repository, `config of ${seed}`, 200);
    const titled = layers.map((layer, index) => ({
      ...layer,
      annotations: { 'org.opencontainers.image.title': `model-${index}.safetensors` },
    }));
    return await this.put(server, repository, tag, imageOf(config, titled, { annotations: { seed } }));
  }

  async #delete(server: TestServer, path: string): Promise<void> {
    expect((await server.request('DELETE', path)).status, path).to.equal(202);
    for (const known of [this.#blobs, this.#manifests, this.#tags]) known.delete(path);
    this.#gone.add(path);
  }

  /** Whole pushes, and a session that stays open. */
  async before(server: TestServer): Promise<void> {
    const large = await this.#push(server, 'team/model', 'large', 3 * MiB);
    const chunked = await this.#pushChunks(server, 'team/model', 'chunked', [2 * MiB, MiB, 2 * MiB]);
    await this.#image(server, 'team/model', 'v1.0-fp16', 'one', [large, chunked]);
    await this.#image(server, 'team/model', 'v1.1-fp16', 'two', [large]);
    await this.#image(server, 'team/model', 'stable', 'two', [large]);
    await this.#image(server, 'team/model', 'v0.9-int8', 'doomed', [
      await this.#push(server, 'team/model', 'doomed', MiB),
    ]);
    await this.#image(server, 'team/model', 'v0.8-int8', 'untagged later', []);
    await this.#push(server, 'team/model', 'never named', 100_000);
    const location = await openUpload(server, 'team/other');
    const bytes = bytesOf('session', 4 * MiB);
    expect((await patch(server, location, bytes.subarray(0, MiB), 0)).status).to.equal(202);
    expect((await patch(server, location, bytes.subarray(MiB, 2 * MiB), MiB)).status).to.equal(202);
    this.#session = { location, bytes };
  }

  /** More of it, the session's end, moves, deletions, an index, referrers, a mount. */
  async after(server: TestServer): Promise<void> {
    if (!this.#session) throw new Error('there was nothing before');
    const { location, bytes } = this.#session;
    expect((await patch(server, location, bytes.subarray(2 * MiB, 3 * MiB), 2 * MiB)).status).to.equal(202);
    expect((await patch(server, location, bytes.subarray(3 * MiB), 3 * MiB)).status).to.equal(202);
    await this.#close(server, 'team/other', location, bytes);
    const session = descriptorOf(bytes, WEIGHTS);
    const other = await this.#image(server, 'team/other', 'v2.0-q4_k_m', 'of a session', [session]);

    const chunked = await this.#pushChunks(server, 'team/model', 'chunked later', [MiB, MiB + 1, 3 * MiB, 100_000]);
    await this.#mount(server, 'team/other', 'team/model', session.digest);
    const moved = await this.#image(server, 'team/model', 'stable', 'three', [chunked, session]);
    await this.put(
      server,
      'team/model',
      'v3.0-fp16',
      this.#manifests.get(`/v2/team/model/manifests/${moved}`)?.bytes as Buffer,
    );
    await this.#delete(server, '/v2/team/model/manifests/v0.8-int8');
    const doomed = this.#tags.get('/v2/team/model/manifests/v0.9-int8') ?? '';
    await this.#delete(server, `/v2/team/model/manifests/${doomed}`);
    this.#tags.delete('/v2/team/model/manifests/v0.9-int8');
    this.#gone.add('/v2/team/model/manifests/v0.9-int8');
    await this.#delete(server, `/v2/team/model/blobs/${digestOf(bytesOf('doomed', MiB))}`);
    await this.#delete(server, `/v2/team/model/blobs/${digestOf(bytesOf('never named', 100_000))}`);

    const child = this.#manifests.get(`/v2/team/other/manifests/${other}`)?.bytes as Buffer;
    const index = indexOf([descriptorOf(child, IMAGE)]);
    await this.put(server, 'team/other', 'all', index, INDEX);
    const config = await this.#push(server, 'team/other', 'small config', 40);
    for (const name of ['signature', 'report']) {
      const referrer = imageOf(config, [], {
        artifactType: `application/vnd.test.${name}`,
        subject: descriptorOf(child, IMAGE),
      });
      const digest = await this.put(server, 'team/other', undefined, referrer);
      const path = `/v2/team/other/referrers/${other}`;
      this.#referrers.set(path, (this.#referrers.get(path) ?? new Set()).add(digest));
    }
    for (let small = 0; small < 40; small++)
      await this.#image(server, `many/repository-${small % 7}`, `v1.${small}-fp16`, `small ${small}`, [
        await this.#push(server, `many/repository-${small % 7}`, `small layer ${small}`, 20_000 + small),
      ]);
  }

  /** Compares everything that was acknowledged, by pulls. */
  async check(server: TestServer): Promise<void> {
    for (const [path, bytes] of this.#blobs) {
      const pulled = await server.request('GET', path);
      expect(pulled.status, path).to.equal(200);
      expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes), path).to.equal(true);
    }
    for (const [path, { bytes, type }] of this.#manifests) {
      const pulled = await server.request('GET', path);
      expect(pulled.status, path).to.equal(200);
      expect(pulled.headers.get('content-type'), path).to.equal(type);
      expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes), path).to.equal(true);
    }
    for (const [path, digest] of this.#tags)
      expect((await server.request('HEAD', path)).headers.get('docker-content-digest'), path).to.equal(digest);
    for (const path of this.#gone) expect((await server.request('GET', path)).status, path).to.equal(404);
    for (const [path, digests] of this.#referrers) {
      const { manifests } = (await (await server.request('GET', path)).json()) as { manifests: TestDescriptor[] };
      expect(
        manifests.map(({ digest }) => digest),
        path,
      ).to.have.members([...digests]);
    }
    for (const repository of new Set([...this.#tags.keys()].map((path) => path.split('/manifests/')[0] ?? ''))) {
      const { tags } = (await (await server.request('GET', `${repository}/tags/list`)).json()) as { tags: string[] };
      const wanted = [...this.#tags.keys()].filter((path) => path.startsWith(`${repository}/manifests/`));
      expect(
        tags.map((tag) => `${repository}/manifests/${tag}`),
        repository,
      ).to.have.members(wanted);
    }
    if (this.releases.length > 0) expect(await releasesOf(server)).to.deep.equal(this.releases);
  }

  async noteReleases(server: TestServer): Promise<void> {
    this.releases = await releasesOf(server);
    expect(this.releases.length).to.be.greaterThan(4);
  }
}

async function releasesOf(server: TestServer): Promise<Release[]> {
  const listed = await server.request('GET', '/api/v1/releases?limit=100');
  expect(listed.status, await listed.clone().text()).to.equal(200);
  const document = (await listed.json()) as Release[] | { items: Release[] };
  const items = Array.isArray(document) ? document : document.items;
  return items
    .map(({ tag, digest, quantization }) => ({ tag, digest, quantization }))
    .sort((a, b) => `${a.tag} ${a.digest}`.localeCompare(`${b.tag} ${b.digest}`));
}
