import {
  CreateBucketCommand,
  DeleteBucketCommand,
  PutBucketLifecycleConfigurationCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { runCommand } from '../faults/support/command.js';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import { startServer } from '../support/server.js';
import { empty, placeIn, settingsOf } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';

describe('a start with its bytes in a bucket', function () {
  this.timeout(180_000);
  let ceph: Ceph;
  let database: TestDatabase;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
  });
  beforeEach(async () => {
    database = await createDatabase();
  });
  afterEach(() => database.drop());

  const serve = (place: ReturnType<typeof placeIn>, command = 'serve') =>
    runCommand(command, { ...settingsOf(place), REGISTRY_DATABASE_URL: database.url });

  it('is refused where the bucket aborts uploads by a rule, and says which', async () => {
    const place = { ...placeIn(ceph), bucket: `aborting-${process.pid}` };
    const { region, endpoint, accessKeyId, secretAccessKey, bucket } = place;
    const credentials = { accessKeyId, secretAccessKey };
    const client = new S3Client({ region, endpoint, credentials, forcePathStyle: true });
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
    try {
      const rule = {
        ID: 'tidy',
        Status: 'Enabled' as const,
        Filter: { Prefix: '' },
        AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
      };
      await client.send(
        new PutBucketLifecycleConfigurationCommand({ Bucket: bucket, LifecycleConfiguration: { Rules: [rule] } }),
      );
      const refused = await serve(place);
      expect(refused.code).to.equal(1);
      expect(refused.said).to.include(`the storage s3://${bucket}/`);
      expect(refused.said).to.match(/tidy.*aborts uploads/);
      expect(refused.said).not.to.include(secretAccessKey);
    } finally {
      await client.send(new DeleteBucketCommand({ Bucket: bucket }));
      client.destroy();
    }
  });

  it('is refused where other nodes of its database use another prefix, until the operator says that it is the one', async () => {
    const [place, other] = [placeIn(ceph), placeIn(ceph)];
    const environment = { REGISTRY_DATABASE_URL: database.url };
    const node = await startServer({ embedded: true, environment: { ...environment, ...settingsOf(place) } });
    try {
      const refused = await serve(other);
      expect(refused.code).to.equal(1);
      expect(refused.said).to.match(/this storage is a new one/);
      expect(await node.stop()).to.equal(0);
      expect(await serve(other, 'adopt')).to.include({ code: 0 });
      const former = await serve(place);
      expect(former.said).to.match(/not the one that the nodes of this database used last/);
    } finally {
      await node.dispose();
      await empty(place);
      await empty(other);
    }
  });
});
