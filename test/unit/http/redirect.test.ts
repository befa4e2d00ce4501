import { expect } from 'chai';
import { credentialsFollow } from '../../../src/http/redirect.js';

describe('credentials of a client that is sent elsewhere', () => {
  for (const [from, to, follow] of [
    ['registry.example.com', 'registry.example.com', true],
    ['registry.example.com', 'S3.Registry.example.com', true],
    ['registry.example.com', 'bucket.s3.registry.example.com', true],
    ['registry.example.com', 's3.example.com', false],
    ['registry.example.com', 'example.com', false],
    ['registry.example.com', 'otherregistry.example.com', false],
    ['127.0.0.1', '127.0.0.1', true],
    ['127.0.0.1', 'localhost', false],
    ['[::1]', '[::1]', true],
  ] as const) {
    it(`${follow ? 'go along' : 'stay'} from ${from} to ${to}`, () => {
      expect(credentialsFollow(from, to)).to.equal(follow);
    });
  }
});
