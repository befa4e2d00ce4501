// strace sees every path that a worker gives to the kernel: none of them comes out of a request.
import { expect } from 'chai';
import { Trace } from '../faults/support/trace.js';
import { notRun } from '../support/not-run.js';
import { startServer, type TestServer } from '../support/server.js';
import { bytesOf, digestOf, expectBlob, openUpload, pushBlob } from './content.js';
import { head, Wire } from './wire.js';

/** Every call that takes a path. */
const CALLS = 'file';
const MARK = 'reached-the-disk';

describe('paths of requests', () => {
  let server: TestServer;
  before(async function () {
    const probe = await Trace.attach(process.pid).catch((error: Error) => error);
    if (probe instanceof Error) notRun(this, 'strace', probe.message);
    await probe.detach();
    server = await startServer({ environment: { REGISTRY_WORKERS: '1', REGISTRY_INLINE_MAX_BYTES: '0' } });
  });
  after(async () => {
    await server?.dispose();
  });

  it('never reach the file system, in no spelling and in no place', async function () {
    this.timeout(180_000);
    const location = await openUpload(server, 'paths/model');
    const [worker = 0] = await server.workers();
    const trace = await Trace.attach(worker, [], CALLS);
    const bytes = bytesOf('paths', 1000);
    const digest = digestOf(bytes);
    try {
      for (const text of spellings()) {
        for (const [method, target] of [
          ['GET', `/v2/${text}/tags/list`],
          ['POST', `/v2/${text}/blobs/uploads/`],
          ['GET', `/v2/a/blobs/${text}`],
          ['GET', `/v2/a/blobs/sha256:${text}`],
          ['DELETE', `/v2/a/blobs/${text}`],
          ['GET', `/v2/a/manifests/${text}`],
          ['PUT', `/v2/a/manifests/${text}`],
          ['GET', `/v2/a/referrers/${text}`],
          ['PATCH', `/v2/a/blobs/uploads/${text}`],
          ['DELETE', `/v2/a/blobs/uploads/${text}`],
          ['GET', `${location}/${text}`],
          ['PUT', `${location}?digest=${text}`],
          ['POST', `/v2/a/blobs/uploads/?mount=${digest}&from=${text}`],
          ['GET', `/v2/_catalog?last=${text}`],
          ['GET', `/${text}`],
          ['GET', text],
          ['GET', `file://${text}`],
        ] as const) {
          const wire = (await Wire.open(server.host)).write(
            head(method, target, 'Content-Length: 0', 'Connection: close'),
          );
          await wire.untilClosed();
          expect(wire.status, `${method} ${target}`).to.be.within(200, 499);
        }
      }
      // What strace shows of an upload and a download tells that it would show the others.
      await pushBlob(server, 'paths/model', bytes);
      await expectBlob(server, 'paths/model', bytes);
    } finally {
      const calls = await trace.detach();
      const paths = calls.flatMap(({ args }) =>
        [...args.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, path]) => path ?? ''),
      );
      expect(paths.filter((path) => path.includes(MARK) || /\.\.|passwd/.test(path))).to.deep.equal([]);
      const blobs = paths.filter((path) => path.startsWith(`${server.folder}/data/blobs/`));
      expect(blobs.length, 'files of the upload').to.be.greaterThan(1);
      for (const path of blobs)
        expect(path.slice(`${server.folder}/data/blobs/`.length)).to.match(
          /^[0-9a-z/-]*(\/[0-9a-f-]{36}\.\d+\.[0-9a-f]{16})?$/,
        );
    }
  });
});

function spellings(): string[] {
  const climbs = [
    '../',
    '..%2f',
    '%2e%2e/',
    '%2e%2e%2f',
    '..%252f',
    '..%c0%af',
    '..\\',
    '..%5c',
    '....//',
    '%00../',
    './../',
  ];
  return [
    MARK,
    `/${MARK}`,
    `%2f${MARK}`,
    `~/${MARK}`,
    `/proc/self/cwd/${MARK}`,
    `${MARK}%00.json`,
    `${MARK}/`,
    '../../../../../../etc/passwd',
    '/etc/passwd',
    'sha256:../../etc/passwd',
    ...climbs.map((climb) => climb.repeat(6) + MARK),
    ...climbs.map((climb) => `sha256:${climb.repeat(3)}${MARK}`),
  ];
}
