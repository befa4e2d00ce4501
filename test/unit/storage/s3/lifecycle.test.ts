import type { LifecycleRule } from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { harmOf } from '../../../../src/storage/s3/lifecycle.js';

describe('what a lifecycle rule does to our objects', () => {
  const rule = (does: Partial<LifecycleRule>): LifecycleRule => ({ ID: 'tidy', Status: 'Enabled', ...does });
  const expires = { Expiration: { Days: 1 } };
  const within = (does: Partial<LifecycleRule>, prefix = 'wh/') => harmOf(rule(does), prefix);

  it('is harm by aborts, expirations and archives', () => {
    expect(within({ AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 } })).to.match(/^aborts uploads/);
    expect(within(expires)).to.match(/^expires objects/);
    expect(within({ Expiration: { Date: new Date() } })).to.match(/^expires objects/);
    for (const StorageClass of ['GLACIER', 'DEEP_ARCHIVE'] as const)
      expect(
        within({
          Transitions: [
            { Days: 1, StorageClass: 'STANDARD_IA' },
            { Days: 30, StorageClass },
          ],
        }),
      ).to.include(`moves objects to ${StorageClass}`);
  });

  it('is none by what leaves current objects there and readable, or is not in force', () => {
    expect(within({ Expiration: { ExpiredObjectDeleteMarker: true } })).to.equal(undefined);
    expect(within({ NoncurrentVersionExpiration: { NoncurrentDays: 1 } })).to.equal(undefined);
    expect(within({ NoncurrentVersionTransitions: [{ StorageClass: 'GLACIER' }] })).to.equal(undefined);
    expect(within({ Transitions: [{ Days: 1, StorageClass: 'GLACIER_IR' }] })).to.equal(undefined);
    expect(within({ ...expires, Status: 'Disabled' })).to.equal(undefined);
  });

  it('depends on whether its names meet ours, in whatever form it tells them', () => {
    for (const Prefix of [
      '',
      'w',
      'wh/',
      'wh/a',
      'wh/0f/',
      'wh/0f/12',
      'wh/rec',
      'wh/records/00',
      'wh/weighhouse.marker',
    ])
      for (const filter of [
        { Prefix },
        { Filter: { Prefix } },
        { Filter: { And: { Prefix, ObjectSizeGreaterThan: 1 } } },
      ])
        expect(within({ ...expires, ...filter }), JSON.stringify(filter)).to.match(/^expires/);
    for (const Prefix of ['x', 'wh/x', 'wh/0fa', 'wh/recorded', 'wh2/', 'a/'])
      expect(within({ ...expires, Filter: { Prefix } }), Prefix).to.equal(undefined);
    for (const Prefix of ['logs/', 'backup/']) expect(within({ ...expires, Prefix }, '')).to.equal(undefined);
    for (const Prefix of ['', 'a', 'ab/', 'records/']) expect(within({ ...expires, Prefix }, '')).to.match(/^expires/);
  });

  it('is none by a tag, as our objects have none; but it is for uploads, which have no tags to compare', () => {
    const Tag = { Key: 'kind', Value: 'scratch' };
    for (const Filter of [{ Tag }, { And: { Prefix: 'wh/', Tags: [Tag] } }]) {
      expect(within({ ...expires, Filter })).to.equal(undefined);
      expect(within({ AbortIncompleteMultipartUpload: {}, Filter })).to.match(/^aborts/);
    }
  });
});
