import {
  DeleteBucketLifecycleCommand,
  PutBucketLifecycleConfigurationCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { openClients, type S3Options } from '../../src/storage/s3/client.js';
import { runCommand } from '../faults/support/command.js';
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

  describe('with a lifecycle rule', () => {
    let client: S3Client;

    before(() => {
      ({ client } = openClients(placeIn(ceph)));
    });
    afterEach(async () => {
      await client.send(new DeleteBucketLifecycleCommand({ Bucket: place.bucket }));
    });
    after(() => client.destroy());

    const aborts = { AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } };
    const expires = { Expiration: { Days: 3650 } };
    const tag = { Key: 'kind', Value: 'scratch' };

    async function putRule(rule: object): Promise<void> {
      const Rules = [{ ID: 'tidy up', Status: 'Enabled' as const, Filter: { Prefix: '' }, ...rule }];
      await client.send(
        new PutBucketLifecycleConfigurationCommand({ Bucket: place.bucket, LifecycleConfiguration: { Rules } }),
      );
    }

    it('is refused while that aborts uploads or expires objects, for a prefix that holds ours or lies within it', async () => {
      const within = () => ({ Filter: { Prefix: `${place.prefix}a` } });
      const date = { Expiration: { Date: new Date('2100-01-01T00:00:00Z') } };
      const rules: [object, RegExp][] = [
        [aborts, /a lifecycle rule of the bucket dev \(tidy up\) aborts uploads/],
        [expires, /a lifecycle rule of the bucket dev \(tidy up\) expires objects/],
        [{ ...expires, Filter: { Prefix: place.prefix.slice(0, 5) } }, /\(tidy up\) expires objects/],
        [{ ...date, ...within() }, /\(tidy up\) expires objects/],
      ];
      for (const [rule, words] of rules) {
        await putRule(rule);
        expect(await refusal(settingsOf(place)), JSON.stringify(rule)).to.match(words);
      }
    });

    for (const [what, rule] of [
      ['is disabled', { ...expires, ...aborts, Status: 'Disabled' }],
      ['is for other names', { ...expires, ...aborts, Filter: { Prefix: 'logs/' } }],
      ['is for objects with a tag, of which we have none', { ...expires, Filter: { Tag: tag } }],
      ['is for versions that are no longer current', { NoncurrentVersionExpiration: { NoncurrentDays: 1 } }],
    ] as const) {
      it(`is not refused if it ${what}`, async () => {
        await putRule(rule);
        server = await startServer({ environment: settingsOf(place) });
      });
    }
  });

  it('is refused where the prefix is another database’s', async () => {
    server = await startServer({ environment: settingsOf(place) });
    expect(await refusal(settingsOf(place))).to.match(/belongs to another database/);
  });

  it('is refused where other nodes of its database use another prefix, until the operator says that it is the one', async () => {
    const other = placeIn(ceph);
    server = await startServer({ environment: settingsOf(place) });
    const { REGISTRY_DATABASE_URL = '' } = server.environment;
    const serve = (at: S3Options, command = 'serve') =>
      runCommand(command, { ...settingsOf(at), REGISTRY_DATABASE_URL });
    try {
      const refused = await serve(other);
      expect(refused.code).to.equal(1);
      expect(refused.said).to.match(/this storage is a new one/);
      expect(refused.said).not.to.include(place.secretAccessKey);
      expect(await server.stop()).to.equal(0);
      expect(await serve(other, 'adopt')).to.include({ code: 0 });
      const former = await serve(place);
      expect(former.said).to.match(/not the one that the nodes of this database used last/);
    } finally {
      await empty(other);
    }
  });

  it('is refused without the bucket, and with a key that may not use it', async () => {
    expect(await refusal({ ...settingsOf(place), REGISTRY_S3_BUCKET: 'nowhere' })).to.match(/no bucket nowhere/);
    const wrong = { ...settingsOf(place), REGISTRY_S3_SECRET_ACCESS_KEY: 'wrong', REGISTRY_S3_TIMEOUT: '1' };
    expect(await refusal(wrong)).to.match(/bucket dev can't be used: .*SignatureDoesNotMatch/);
  });
});
