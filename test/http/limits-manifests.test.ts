import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import { expectError, pushConfig, putManifest } from './content.js';
import { sharedServer } from './shared-server.js';

const MiB = 1024 * 1024;

describe('manifests that are meant to be hard to read', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
    await pushConfig(server, 'hard/model');
  });

  const repeated = (text: string, size = 4 * MiB) => text.repeat(Math.floor(size / text.length));
  const documents: [what: string, text: string][] = [
    ['brackets alone', repeated('[')],
    ['braces within braces', repeated('{"a":')],
    ['closing brackets alone', repeated(']')],
    ['brackets that open and close', `[${repeated('[],', 4 * MiB - 4)}[]]`],
    ['backslashes in one string', `{"a":"${repeated('\\', 4 * MiB - 20)}"}`],
    ['a string without end', `{"a":"${repeated('\\"', 4 * MiB - 20)}`],
    ['quotes alone', repeated('"')],
    ['a name again and again', `{${repeated('"a":1,', 4 * MiB - 20)}"a":1}`],
    ['names that are all different', `{${Array.from({ length: 400_000 }, (_, n) => `"${n}":0`).join(',')}}`],
    ['one number', repeated('9')],
    ['blanks alone', repeated(' ')],
    ['layers that are nothing', `{"schemaVersion":2,"config":{},"layers":[${repeated('{},', 3 * MiB)}{}]}`],
  ];
  for (const [what, text] of documents) {
    it(`answers ${what} with MANIFEST_INVALID within seconds`, async () => {
      const begun = performance.now();
      const answer = await putManifest(server, 'hard/model', 'x', Buffer.from(text.slice(0, 4 * MiB)));
      await expectError(answer, 400, 'MANIFEST_INVALID');
      // Whoever reads it again and again takes minutes.
      expect(performance.now() - begun).to.be.lessThan(10_000);
    });
  }
});
