import { expect } from 'chai';
import { startServer, type TestServer } from '../support/server.js';
import {
  descriptorOf,
  digestOf,
  expectError,
  IMAGE,
  imageOf,
  INDEX,
  indexOf,
  pushConfig,
  pushImage,
  putManifest,
  type TestDescriptor,
} from './content.js';

const MAX_PAGE_BYTES = 4096;
const SBOM = 'application/vnd.example.sbom.v1';

interface Referrer extends TestDescriptor {
  readonly artifactType?: string;
  readonly annotations?: Record<string, string>;
}

describe('referrers over HTTP', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({
      environment: { REGISTRY_WORKERS: '1', REGISTRY_REFERRERS_MAX_BYTES: String(MAX_PAGE_BYTES) },
    });
  });
  after(async () => {
    await server?.dispose();
  });

  async function page(path: string) {
    const answer = await server.request('GET', path);
    expect(answer.status).to.equal(200);
    expect(answer.headers.get('content-type')).to.equal(INDEX);
    const text = await answer.text();
    const body = JSON.parse(text) as { schemaVersion: number; mediaType: string; manifests: Referrer[] };
    expect(body).to.include({ schemaVersion: 2, mediaType: INDEX });
    const next = /^<([^<>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
    return { ...body, next, size: text.length, filters: answer.headers.get('oci-filters-applied') };
  }

  /** Pushes an image that refers to the subject. @returns what the list should say of it. */
  async function attach(repository: string, subject: Buffer, more: Record<string, unknown> = {}): Promise<Referrer> {
    const manifest = imageOf(await pushConfig(server, repository), [], {
      subject: descriptorOf(subject, IMAGE),
      ...more,
    });
    const pushed = await putManifest(server, repository, digestOf(manifest), manifest);
    expect(pushed.status).to.equal(201);
    expect(pushed.headers.get('oci-subject')).to.equal(digestOf(subject));
    return descriptorOf(manifest, IMAGE);
  }

  it('lists what refers to a manifest, with its type and annotations', async () => {
    const subject = await pushImage(server, 'referrers/one', 'v1');
    const annotations = { 'org.example': 'é "quoted"' };
    const typed = await attach('referrers/one', subject, { artifactType: SBOM, annotations });
    const untyped = await attach('referrers/one', subject);
    const index = indexOf([], { subject: descriptorOf(subject, IMAGE), annotations });
    const pushed = await putManifest(server, 'referrers/one', digestOf(index), index, INDEX);
    expect(pushed.headers.get('oci-subject')).to.equal(digestOf(subject));
    const { manifests, next, filters } = await page(`/v2/referrers/one/referrers/${digestOf(subject)}`);
    expect(manifests).to.have.deep.members([
      { ...typed, artifactType: SBOM, annotations },
      { ...untyped, artifactType: 'application/vnd.oci.image.config.v1+json' },
      { ...descriptorOf(index, INDEX), annotations },
    ]);
    expect(next).to.equal(undefined);
    expect(filters).to.equal(null);
  });

  it('filters by artifactType and says so', async () => {
    const subject = await pushImage(server, 'referrers/filter', 'v1');
    const sbom = await attach('referrers/filter', subject, { artifactType: SBOM });
    await attach('referrers/filter', subject, { artifactType: 'application/vnd.example.other+json' });
    const path = `/v2/referrers/filter/referrers/${digestOf(subject)}`;
    const some = await page(`${path}?artifactType=${encodeURIComponent(SBOM)}`);
    expect(some.manifests.map(({ digest }) => digest)).to.deep.equal([sbom.digest]);
    expect(some.filters).to.equal('artifactType');
    const plus = await page(`${path}?artifactType=${encodeURIComponent('application/vnd.example.other+json')}`);
    expect(plus.manifests).to.have.lengthOf(1);
    expect((await page(`${path}?artifactType=no/such`)).manifests).to.deep.equal([]);
    expect((await page(path)).manifests).to.have.lengthOf(2);
  });

  it('takes a subject that is not there, and lists for it', async () => {
    const absent = Buffer.from('{"absent":true}');
    const referrer = await attach('referrers/absent', absent);
    const { manifests } = await page(`/v2/referrers/absent/referrers/${digestOf(absent)}`);
    expect(manifests.map(({ digest }) => digest)).to.deep.equal([referrer.digest]);
  });

  it('answers an empty list for an unknown subject and for an unknown repository', async () => {
    const digest = digestOf('unknown');
    expect((await page(`/v2/referrers/absent/referrers/${digest}`)).manifests).to.deep.equal([]);
    expect((await page(`/v2/referrers/nowhere/referrers/${digest}`)).manifests).to.deep.equal([]);
    expect((await page(`/v2/referrers/nowhere/referrers/${digestOf('x', 'sha512')}`)).manifests).to.deep.equal([]);
  });

  it('shows a deletion at once, and keeps the referrers of a subject that is deleted', async () => {
    const subject = await pushImage(server, 'referrers/deleted', 'v1');
    const first = await attach('referrers/deleted', subject, { artifactType: 'a/a' });
    const second = await attach('referrers/deleted', subject, { artifactType: 'b/b' });
    const path = `/v2/referrers/deleted/referrers/${digestOf(subject)}`;
    await server.request('DELETE', `/v2/referrers/deleted/manifests/${first.digest}`);
    expect((await page(path)).manifests.map(({ digest }) => digest)).to.deep.equal([second.digest]);
    await server.request('DELETE', `/v2/referrers/deleted/manifests/${digestOf(subject)}`);
    expect((await page(path)).manifests.map(({ digest }) => digest)).to.deep.equal([second.digest]);
  });

  it('keeps referrers of the same subject in two repositories apart', async () => {
    const subject = Buffer.from('{"both":true}');
    await attach('referrers/here', subject);
    expect((await page(`/v2/referrers/there/referrers/${digestOf(subject)}`)).manifests).to.deep.equal([]);
  });

  it('pages by size: every referrer once, no page too large, filters kept, no Link at the end', async () => {
    const subject = await pushImage(server, 'referrers/many', 'v1');
    const attached: string[] = [];
    for (let index = 0; index < 24; index++) {
      const annotations = { index: String(index), filler: 'x'.repeat((index % 6) * 150) };
      attached.push((await attach('referrers/many', subject, { artifactType: SBOM, annotations })).digest);
    }
    await attach('referrers/many', subject, { artifactType: 'other/type' });
    let next: string | undefined =
      `/v2/referrers/many/referrers/${digestOf(subject)}?artifactType=${encodeURIComponent(SBOM)}`;
    const seen: string[] = [];
    let pages = 0;
    while (next !== undefined) {
      const one: Awaited<ReturnType<typeof page>> = await page(next);
      // The page's own frame comes on top of its descriptors.
      expect(one.size).to.be.at.most(MAX_PAGE_BYTES + 1200);
      expect(one.filters).to.equal('artifactType');
      expect(one.manifests).to.have.length.greaterThan(0);
      seen.push(...one.manifests.map(({ digest }) => digest));
      next = one.next;
      pages += 1;
    }
    expect(seen).to.deep.equal([...attached].sort());
    expect(pages).to.be.greaterThan(3);
  });

  it('sends a referrer that is larger than a page alone on its page', async () => {
    const subject = await pushImage(server, 'referrers/large', 'v1');
    for (const letter of ['a', 'b'])
      await attach('referrers/large', subject, { annotations: { large: letter.repeat(3 * MAX_PAGE_BYTES) } });
    const first = await page(`/v2/referrers/large/referrers/${digestOf(subject)}`);
    expect(first.manifests).to.have.lengthOf(1);
    const second = await page(first.next ?? '');
    expect(second.manifests).to.have.lengthOf(1);
    expect(second.next).to.equal(undefined);
  });

  it('refuses a malformed digest with 400, never with 404', async () => {
    for (const digest of ['sha256:short', 'latest', `sha256:${'G'.repeat(64)}`])
      await expectError(await server.request('GET', `/v2/referrers/one/referrers/${digest}`), 400, 'DIGEST_INVALID');
  });
});
