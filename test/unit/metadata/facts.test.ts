import { expect } from 'chai';
import type { Actor } from '../../../src/actor.js';
import { connect, type Pool } from '../../../src/database/connect.js';
import { factsJob } from '../../../src/metadata/facts-job.js';
import { followChanges } from '../../../src/metadata/follow.js';
import { type Digest, digestOf } from '../../../src/oci/digest.js';
import { parseManifest } from '../../../src/oci/manifest.js';
import { OCI_IMAGE_MANIFEST } from '../../../src/oci/media-types.js';
import type { RepositoryName, Tag } from '../../../src/oci/name.js';
import type { Blobs } from '../../../src/registry/blobs.js';
import { putManifest } from '../../../src/registry/manifest-rows.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const ACTOR: Actor = { key: 'k', name: 'a test', address: '', userAgent: '', requestId: '' };
const REPOSITORY = 'facts/model' as RepositoryName;
const LIMITS = { maxBytes: 1_000_000, maxDepth: 16, maxDescriptors: 100 };

describe('facts of releases', () => {
  let database: Pool;
  let test: TestDatabase;
  const config = Buffer.from(
    JSON.stringify({ config: { quantization: 'bf16', parameters: '7B' }, descriptor: { name: 'tiny' } }),
  );
  /** Blobs as the job reads them, with one that is there or is not. */
  const blobsWith = (bytes: Buffer | undefined): Blobs =>
    ({
      getOpenable: async () => {
        if (!bytes) throw new Error('not to be read');
        return await Promise.resolve({
          size: bytes.length,
          open: () =>
            Promise.resolve(
              Object.assign(
                (async function* () {
                  yield await Promise.resolve(bytes);
                })(),
                { [Symbol.asyncDispose]: () => Promise.resolve() },
              ),
            ),
        });
      },
    }) as unknown as Blobs;

  before(async () => {
    test = await createDatabase();
    database = connect({ url: test.url, pool: 2, timeout: 10 });
  });
  after(async () => {
    await database.close();
    await test.drop();
  });

  /** Pushes a Docker model under a tag, with its config read or not. */
  async function push(tag: string, read: unknown): Promise<void> {
    const digest = digestOf('sha256', config);
    await database.query(
      `with b as (insert into bodies default values returning id), r as (insert into repositories (name) values ($1)
         on conflict (name) do update set name = excluded.name returning id),
        i as (insert into blobs (digest, size, body) select $2, $3, id from b on conflict do nothing)
       select from r`,
      [REPOSITORY, digest, config.length],
    );
    await database.query(
      'insert into repository_blobs (repository, digest) select id, $2 from repositories where name = $1 on conflict do nothing',
      [REPOSITORY, digest],
    );
    const payload = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: OCI_IMAGE_MANIFEST,
        config: { mediaType: 'application/vnd.docker.ai.model.config.v0.1+json', digest, size: config.length },
        layers: [{ mediaType: 'application/vnd.docker.ai.gguf.v3', digest, size: config.length }],
      }),
    );
    const manifest = parseManifest(payload, OCI_IMAGE_MANIFEST, LIMITS);
    const named = digestOf('sha256', payload);
    await database.transaction(async (transaction) => {
      const tags = [tag as Tag];
      const moved = await putManifest(
        transaction,
        { repository: REPOSITORY, digest: named, payload, manifest, tags },
        ACTOR,
      );
      const size = payload.length;
      const pushed = {
        kind: 'manifest-pushed' as const,
        alone: true,
        repository: REPOSITORY,
        digest: named,
        size,
        manifest,
        tags,
        moved,
      };
      await followChanges({ ...pushed, config: read }, ACTOR, transaction);
    });
  }
  async function factsUnder(tag: string): Promise<Record<string, unknown> | null> {
    const [row] = await database.query<{ facts: Record<string, unknown> | null; digest: Digest }>(
      'select facts, digest from releases where tag = $1',
      [tag],
    );
    return row?.facts ?? null;
  }

  it('show where tag and config contradict each other', async () => {
    await push('v1.0-int8', JSON.parse(config.toString()));
    const { quantization } = (await factsUnder('v1.0-int8')) ?? {};
    expect(quantization).to.deep.include({ value: 'bf16', source: 'config' });
    expect(quantization).to.have.deep.property('conflict', [{ source: 'tag', value: 'int8' }]);
  });

  it('are read later by a job, where nobody could read the config at first', async () => {
    await push('v2.0-int8', undefined);
    expect(await factsUnder('v2.0-int8')).to.equal(null);
    await factsJob(database, blobsWith(config), 1_000).run();
    const { version, ...facts } = (await factsUnder('v2.0-int8')) ?? {};
    const { version: former, ...known } = (await factsUnder('v1.0-int8')) ?? {};
    expect(facts).to.deep.equal(known);
    expect([version, former]).to.deep.equal([
      { value: 'v2.0', source: 'tag' },
      { value: 'v1.0', source: 'tag' },
    ]);
    // Nothing is left to read.
    await factsJob(database, blobsWith(undefined), 1_000).run();
  });

  it('are those that there are, where the config is no JSON', async () => {
    await push('v3.0-int8', undefined);
    await factsJob(database, blobsWith(Buffer.from('{')), 1_000).run();
    const facts = await factsUnder('v3.0-int8');
    expect(facts).to.have.property('packaging', 'docker');
    expect(facts).to.have.nested.property('quantization.source', 'tag');
    await factsJob(database, blobsWith(undefined), 1_000).run();
  });
});
