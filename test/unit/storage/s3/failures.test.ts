import { expect } from 'chai';
import { s3Error, storageFailure } from '../../../../src/storage/s3/failures.js';

const answered = (httpStatusCode: number, name: string) =>
  Object.assign(new Error('words'), {
    name,
    $metadata: { httpStatusCode },
    $response: { headers: { authorization: 'secret' } },
  });
const broken = (code: string) => Object.assign(new Error('words'), { code, $metadata: {} });

describe('what S3 answers', () => {
  for (const [answer, failure, error] of [
    ['missing', 'Unavailable', answered(404, 'NoSuchKey')],
    ['missing', 'Unavailable', answered(404, 'NotFound')],
    ['missing', 'Unavailable', answered(404, 'NoSuchUpload')],
    ['refused', 'Unavailable', answered(404, 'NoSuchBucket')],
    ['exists', 'Unavailable', answered(412, 'PreconditionFailed')],
    ['range', 'Unavailable', answered(416, 'InvalidRange')],
    ['parts', 'Unavailable', answered(400, 'InvalidPart')],
    ['refused', 'Unavailable', answered(400, 'EntityTooSmall')],
    ['again', 'Unavailable', answered(400, 'BadDigest')],
    ['again', 'Unavailable', answered(403, 'InvalidAccessKeyId')],
    ['again', 'Unavailable', answered(403, 'AccessDenied')],
    ['again', 'Unavailable', answered(408, 'RequestTimeout')],
    ['again', 'Unavailable', answered(500, 'InternalError')],
    ['again', 'Unavailable', answered(503, 'SlowDown')],
    ['again', 'Unavailable', broken('ECONNRESET')],
    ['full', 'StorageFull', answered(403, 'QuotaExceeded')],
    ['full', 'StorageFull', answered(507, 'XMinioStorageFull')],
  ] as const) {
    it(`counts as ${answer} when it is ${error.$metadata && 'httpStatusCode' in error.$metadata ? error.$metadata.httpStatusCode : 'none'} ${'code' in error ? error.code : error.name}`, () => {
      const known = s3Error('PUT', error);
      expect(known.answer).to.equal(answer);
      expect(JSON.stringify({ ...known, message: known.message })).not.to.include('secret');
      const told = storageFailure(known);
      expect(told.failure).to.equal(failure);
      expect(told.retryAfter).to.be.within(1, 60);
    });
  }
});
