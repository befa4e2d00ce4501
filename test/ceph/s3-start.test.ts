import { DeleteBucketLifecycleCommand, PutBucketLifecycleConfigurationCommand } from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { openClients, type S3Options } from '../../src/storage/s3/client.js';
import { startServer, type TestServer } from '../support/server.js';
import { empty, placeIn, settingsOf } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';

describe('a start on a bucket', function () {
  this.timeout(300_000);
  let ceph: Ceph;
  let place: S3Options;
  let server: TestServer | undefined;

  before(async function () {
    ceph = await sharedCeph(this);
  });
  beforeEach(() => {
    place = placeIn(ceph);
  });
  afterEach(async () => {
    await server?.dispose();
    server = undefined;
    await empty(place);
  });

  /** Why a registry with these settings does not start. */
  async function refusal(environment: Record<string, string>): Promise<string> {
    return await startServer({ environment }).then(
      async (started) => {
        await started.dispose();
        return 'it started';
      },
      (error: unknown) => String(error),
    );
  }

  it('is refused while a lifecycle rule of it aborts uploads, and only then', async () => {
    const { client } = openClients(place);
    const rule = { ID: 'tidy up', Filter: { Prefix: '' } };
    const putRule = async (does: object, status: 'Enabled' | 'Disabled') =>
      await client.send(
        new PutBucketLifecycleConfigurationCommand({
          Bucket: place.bucket,
          LifecycleConfiguration: { Rules: [{ ...rule, ...does, Status: status }] },
        }),
      );
    const aborts = { AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } };
    try {
      await putRule(aborts, 'Enabled');
      expect(await refusal(settingsOf(place))).to.match(
        /a lifecycle rule of the bucket dev \(tidy up\) aborts uploads/,
      );
      await putRule(aborts, 'Disabled');
      server = await startServer({ environment: settingsOf(place) });
    } finally {
      await client.send(new DeleteBucketLifecycleCommand({ Bucket: place.bucket }));
      client.destroy();
    }
  });

  it('is refused where the prefix is another database’s, or the database knows another prefix', async () => {
    server = await startServer({ environment: settingsOf(place) });
    expect(await refusal(settingsOf(place))).to.match(/belongs to another database/);
    const { REGISTRY_DATABASE_URL = '' } = server.environment;
    const elsewhere = placeIn(ceph);
    try {
      expect(await refusal({ ...settingsOf(elsewhere), REGISTRY_DATABASE_URL })).to.match(/this storage is a new one/);
    } finally {
      await empty(elsewhere);
    }
  });

  it('is refused without the bucket, and with a key that may not use it', async () => {
    expect(await refusal({ ...settingsOf(place), REGISTRY_S3_BUCKET: 'nowhere' })).to.match(/no bucket nowhere/);
    const wrong = { ...settingsOf(place), REGISTRY_S3_SECRET_ACCESS_KEY: 'wrong', REGISTRY_S3_TIMEOUT: '1' };
    expect(await refusal(wrong)).to.match(/bucket dev can't be used: .*SignatureDoesNotMatch/);
  });
});
