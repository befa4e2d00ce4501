import { expect } from 'chai';
import fc from 'fast-check';
import type { TestServer } from '../support/server.js';
import { bytesOf, close, digestOf, openUpload, patch, pushBlob } from './content.js';
import { parseMultipart } from './multipart.js';
import { sharedServer } from './shared-server.js';
import { exchange } from './wire.js';

const REPOSITORY = 'ranges/model';
const SIZE = 200_003;
const bytes = bytesOf('ranges', SIZE);
const etag = `"${digestOf(bytes)}"`;
const path = `/v2/${REPOSITORY}/blobs/${digestOf(bytes)}`;

describe('ranges of blobs over HTTP', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
    // In three segments, so that ranges cross from one to the next: smaller ones than these would be joined.
    const location = await openUpload(server, REPOSITORY);
    await patch(server, location, bytes.subarray(0, 90_000), 0);
    await patch(server, location, bytes.subarray(90_000, 160_000), 90_000);
    await patch(server, location, bytes.subarray(160_000), 160_000);
    expect((await close(server, location, digestOf(bytes))).status).to.equal(201);
  });

  const ask = (range: string, headers: Record<string, string> = {}) =>
    exchange(server.host, 'GET', path, { headers: { range, ...headers } });

  const single: [string, number, number][] = [
    ['bytes=0-0', 0, 0],
    ['bytes=0-', 0, SIZE - 1],
    ['bytes=100-199', 100, 199],
    ['bytes=-1', SIZE - 1, SIZE - 1],
    ['bytes=-500', SIZE - 500, SIZE - 1],
    ['bytes=-999999999', 0, SIZE - 1],
    ['bytes=89999-160001', 89_999, 160_001],
    ['bytes=90000-90000', 90_000, 90_000],
    [`bytes=${SIZE - 1}-`, SIZE - 1, SIZE - 1],
    ['bytes=1000-99999999999999999999', 1000, SIZE - 1],
    ['BYTES=5-6', 5, 6],
  ];
  for (const [range, first, last] of single) {
    it(`answers ${range} with 206 and just these bytes`, async () => {
      const answer = await ask(range);
      expect(answer.status).to.equal(206);
      expect(answer.headers['content-range']).to.equal(`bytes ${first}-${last}/${SIZE}`);
      expect(answer.headers['content-length']).to.equal(String(last - first + 1));
      expect(answer.headers.etag).to.equal(etag);
      expect(answer.headers['content-type']).to.equal('application/octet-stream');
      expect(answer.body.equals(bytes.subarray(first, last + 1))).to.equal(true);
    });
  }

  for (const range of [
    `bytes=${SIZE}-`,
    'bytes=99999999999999999999-',
    'bytes=500-0',
    'bytes=-0',
    `bytes=${SIZE}-,-0`,
  ]) {
    it(`answers ${range} with 416, the true size, and a short body of its own`, async () => {
      const answer = await ask(range);
      expect(answer.status).to.equal(416);
      expect(answer.headers['content-range']).to.equal(`bytes */${SIZE}`);
      expect(answer.headers['content-type']).to.match(/^application\/json/);
      expect(Number(answer.headers['content-length'])).to.equal(answer.body.length);
      expect(answer.body.length).to.be.lessThan(500);
      for (const name of ['etag', 'docker-content-digest', 'cache-control'])
        expect(answer.headers[name], name).to.equal(undefined);
      expect(JSON.parse(answer.body.toString())).to.have.nested.property('errors[0].code');
    });
  }

  for (const range of ['bytes=', 'bytes=a-b', 'bytes=1-2-3', 'items=0-1', 'bytes', 'bytes=--5', 'bytes=0x1-0x2']) {
    it(`ignores the Range "${range}", which is none`, async () => {
      const answer = await ask(range);
      expect(answer.status).to.equal(200);
      expect(answer.body.equals(bytes)).to.equal(true);
    });
  }

  it('answers several ranges as multipart/byteranges in the order that was asked', async () => {
    const answer = await ask('bytes=199990-, 0-0,89990-90010 ,-3');
    expect(answer.status).to.equal(206);
    // The last two of four overlap: they come in ascending order, each byte once.
    const parts = parseMultipart(answer.headers['content-type'], answer.body);
    expect(answer.headers['content-length']).to.equal(String(answer.body.length));
    expect(answer.headers['content-range']).to.equal(undefined);
    const total = parts.reduce((sum, part) => sum + part.body.length, 0);
    expect(total).to.equal(1 + 21 + 13);
    for (const { contentRange, contentType, body } of parts) {
      const [, first, last] = /^bytes (\d+)-(\d+)\/200003$/.exec(contentRange) ?? [];
      expect(contentType).to.equal('application/octet-stream');
      expect(body.equals(bytes.subarray(Number(first), Number(last) + 1))).to.equal(true);
    }
    const apart = parseMultipart(
      ...(await ask('bytes=1000-1009,5-9').then(({ headers, body }) => [headers['content-type'], body] as const)),
    );
    expect(apart.map(({ contentRange }) => contentRange)).to.deep.equal(['bytes 1000-1009/200003', 'bytes 5-9/200003']);
  });

  it('never sends a byte twice, however often it is asked for', async () => {
    const answer = await ask(`bytes=${Array(50).fill('0-').join(',')}`);
    expect(answer.body.length).to.be.at.most(SIZE + 1000);
  });

  it('sends what slicing gives, for any single range', async () => {
    const position = fc.oneof(fc.integer({ min: 0, max: SIZE + 10 }), fc.integer({ min: 159_990, max: 160_010 }));
    await fc.assert(
      fc.asyncProperty(fc.option(position), fc.option(position), async (first, last) => {
        fc.pre(first !== null || last !== null);
        const answer = await ask(`bytes=${first ?? ''}-${last ?? ''}`);
        const slice =
          first === null
            ? last === 0
              ? Buffer.alloc(0)
              : bytes.subarray(-(last ?? 0))
            : bytes.subarray(first, last === null ? SIZE : last + 1);
        expect(answer.status).to.equal(slice.length > 0 ? 206 : 416);
        if (slice.length > 0) expect(answer.body.equals(slice)).to.equal(true);
      }),
      { numRuns: 60 },
    );
  });

  it('sends what slicing gives, for any list of ranges', async () => {
    const range = fc
      .tuple(fc.integer({ min: 0, max: SIZE - 1 }), fc.integer({ min: 0, max: 3000 }))
      .map(([first, length]) => [first, Math.min(first + length, SIZE - 1)] as const);
    await fc.assert(
      fc.asyncProperty(fc.array(range, { minLength: 2, maxLength: 8 }), async (ranges) => {
        const answer = await ask(`bytes=${ranges.map(([first, last]) => `${first}-${last}`).join(',')}`);
        expect(answer.status).to.equal(206);
        const several = String(answer.headers['content-type']).startsWith('multipart/');
        const parts = several
          ? parseMultipart(answer.headers['content-type'], answer.body)
          : [{ contentRange: String(answer.headers['content-range']), body: answer.body }];
        const covered = new Set<number>();
        for (const { contentRange, body } of parts) {
          const first = Number(/^bytes (\d+)-/.exec(contentRange)?.[1]);
          expect(body.equals(bytes.subarray(first, first + body.length))).to.equal(true);
          for (let at = first; at < first + body.length; at++) covered.add(at);
        }
        const wanted = new Set<number>();
        for (const [first, last] of ranges) for (let at = first; at <= last; at++) wanted.add(at);
        expect(covered.size).to.equal(wanted.size);
        for (const at of wanted) if (!covered.has(at)) expect.fail(`byte ${at} is missing`);
      }),
      { numRuns: 25 },
    );
  });

  it('applies a range only to the entity that If-Range names', async () => {
    expect((await ask('bytes=0-9', { 'if-range': etag })).status).to.equal(206);
    for (const other of ['"other"', `W/${etag}`, 'Wed, 21 Oct 2015 07:28:00 GMT']) {
      const answer = await ask('bytes=0-9', { 'if-range': other });
      expect(answer.status).to.equal(200);
      expect(answer.body.equals(bytes)).to.equal(true);
    }
    // What can't be satisfied is no matter either when the range doesn't count.
    expect((await ask(`bytes=${SIZE}-`, { 'if-range': '"other"' })).status).to.equal(200);
  });

  it('answers If-None-Match before it looks at the range', async () => {
    const answer = await ask('bytes=0-9', { 'if-none-match': etag });
    expect(answer.status).to.equal(304);
    expect(answer.headers['content-range']).to.equal(undefined);
  });

  it('ignores the range of a HEAD', async () => {
    for (const range of ['bytes=0-9', `bytes=${SIZE}-`]) {
      const answer = await exchange(server.host, 'HEAD', path, { headers: { range } });
      expect(answer.status).to.equal(200);
      expect(answer.headers['content-length']).to.equal(String(SIZE));
    }
  });

  it('knows no first byte of the empty blob', async () => {
    const empty = `/v2/${REPOSITORY}/blobs/${await pushBlob(server, REPOSITORY, Buffer.alloc(0))}`;
    const first = await exchange(server.host, 'GET', empty, { headers: { range: 'bytes=0-' } });
    expect(first.status).to.equal(416);
    expect(first.headers['content-range']).to.equal('bytes */0');
    const last = await exchange(server.host, 'GET', empty, { headers: { range: 'bytes=-5' } });
    expect(last.status).to.equal(200);
    expect(last.headers['content-length']).to.equal('0');
  });
});
