import { readFile, stat, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { digestOf, digestOfText, expectSameFile, MiB, writeSeeded } from './support/bytes.js';
import { registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

interface Answer {
  status: number;
  headers: Map<string, string>;
  body: string;
}

describe('curl', () => {
  const here = scenario('curl', ['curl']);
  let file: string;
  let digest: string;

  before(async () => {
    file = await writeSeeded(here().path('weights.bin'), 'curl', 48 * MiB + 17);
    digest = await digestOf(file);
  });

  /** One request with the key; the last answer's status, headers and body. A path may be a Location, of either form. */
  async function curl(path: string, args: string[] = [], codes = [0]): Promise<Answer> {
    const { url, user, key } = registry();
    const target = path.startsWith('http') ? path : `${url}${path}`;
    const all = ['-sS', '-u', `${user}:${key}`, '-D', here().path('headers'), ...args, target];
    const { stdout } = await here().run('curl', all, { codes });
    const blocks = (await readFile(here().path('headers'), 'utf8')).trim().split(/\r\n\r\n/);
    const [first = '', ...rest] = (blocks.at(-1) ?? '').split('\r\n');
    const headers = rest.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    });
    return { status: Number(first.split(' ')[1]), headers: new Map(headers), body: stdout };
  }

  const blobs = () => `/v2/${here().repository}/blobs`;
  const octets = ['-H', 'Content-Type: application/octet-stream'];

  async function begin(): Promise<string> {
    const answer = await curl(`${blobs()}/uploads/`, ['-X', 'POST', '-d', '']);
    expect(answer.status).to.equal(202);
    return answer.headers.get('location') ?? '';
  }

  const withDigest = (location: string, value: string): string =>
    `${location}${location.includes('?') ? '&' : '?'}digest=${value}`;

  async function expectStored(value: string, original: string): Promise<void> {
    const out = here().path('got.bin');
    const answer = await curl(`${blobs()}/${value}`, ['-o', out]);
    expect(answer.status).to.equal(200);
    expect(Number(answer.headers.get('content-length'))).to.equal((await stat(original)).size);
    expect(answer.headers.get('docker-content-digest')).to.equal(value);
    await expectSameFile(out, original);
    expect((await curl(`${blobs()}/${value}`, ['-X', 'DELETE'])).status).to.equal(202);
    expect((await curl(`${blobs()}/${value}`, ['-I'])).status).to.equal(404);
  }

  it('is asked for the key, and refused with another', async () => {
    const { url, user } = registry();
    const status = ['-s', '-o', '/dev/null', '-w', '%{http_code} %header{www-authenticate}'];
    const without = (await here().run('curl', [...status, `${url}/v2/`])).stdout;
    expect(without).to.match(/^401 (Basic|Bearer) realm=".+"/);
    expect((await here().run('curl', [...status, '-u', `${user}:wrong`, `${url}/v2/`])).stdout).to.match(/^401 /);
    expect((await curl('/v2/')).status).to.equal(200);
  });

  it('pushes in one POST, and by POST and PUT', async () => {
    const single = await curl(`${blobs()}/uploads/?digest=${digest}`, [
      ...octets,
      '-X',
      'POST',
      '--data-binary',
      `@${file}`,
    ]);
    expect(single.status).to.equal(201);
    await expectStored(digest, file);
    const put = await curl(withDigest(await begin(), digest), [...octets, '-X', 'PUT', '-T', file]);
    expect(put.status).to.equal(201);
    await expectStored(digest, file);
  });

  it('pushes with Expect: 100-continue, and by sha512', async () => {
    const strong = await digestOf(file, 'sha512');
    const location = await begin();
    const put = await curl(withDigest(location, strong), [
      ...octets,
      '-H',
      'Expect: 100-continue',
      '-X',
      'PUT',
      '-T',
      file,
    ]);
    expect(put.status).to.equal(201);
    await expectStored(strong, file);
  });

  it('streams from a pipe, without a length', async () => {
    const { url, user, key } = registry();
    const location = await begin();
    const target = location.startsWith('http') ? location : `${url}${location}`;
    const pipe =
      'cat "$1" | curl -sS -u "$2" -X PATCH -H "Content-Type: application/octet-stream" -T - -o /dev/null -w "%{http_code} %header{range} %header{location}" "$3"';
    const { stdout } = await here().run('sh', ['-c', pipe, 'sh', file, `${user}:${key}`, target]);
    const [status, range, next = ''] = stdout.split(' ');
    expect([status, range]).to.deep.equal(['202', `0-${48 * MiB + 16}`]);
    expect((await curl(withDigest(next, digest), ['-X', 'PUT', '-d', ''])).status).to.equal(201);
    await expectStored(digest, file);
  });

  it('pushes in chunks of many sizes, the last one in the PUT', async () => {
    let location = await begin();
    let offset = 0;
    const bytes = await readFile(file);
    for (const size of [1, 4095, 5 * MiB, 16 * MiB + 1, 3]) {
      const headers = ['-H', `Content-Range: ${offset}-${offset + size - 1}`, ...octets];
      const chunk = bytes.subarray(offset, offset + size);
      const answer = await send('PATCH', location, headers, chunk);
      offset += size;
      expect([answer.status, answer.headers.get('range')]).to.deep.equal([202, `0-${offset - 1}`]);
      location = answer.headers.get('location') ?? '';
    }
    const last = ['-H', `Content-Range: ${offset}-${bytes.length - 1}`, ...octets];
    const answer = await send('PUT', withDigest(location, digest), last, bytes.subarray(offset));
    expect(answer.status).to.equal(201);
    await expectStored(digest, file);
  });

  async function send(method: string, path: string, args: string[], body: Buffer): Promise<Answer> {
    await writeFile(here().path('chunk'), body);
    return curl(path, [...args, '-X', method, '--data-binary', `@${here().path('chunk')}`]);
  }

  it('refuses a chunk out of order, and says where to go on', async () => {
    const location = await begin();
    const wrong = await send('PATCH', location, ['-H', 'Content-Range: 10-19', ...octets], Buffer.alloc(10));
    expect(wrong.status).to.equal(416);
    const status = await curl(location);
    expect(status.status).to.equal(204);
    expect((await curl(location, ['-X', 'DELETE'])).status).to.equal(204);
    expect((await curl(location)).status).to.equal(404);
  });

  it('goes on after uploads that were cut, three times', async () => {
    let location = await begin();
    const size = (await stat(file)).size;
    let offset = 0;
    for (let cut = 0; cut < 3; cut++) {
      await here().run('sh', ['-c', 'tail -c +"$1" "$2" > "$3"', 'sh', String(offset + 1), file, here().path('rest')]);
      const range = ['-H', `Content-Range: ${offset}-${size - 1}`];
      const slowly = ['--limit-rate', '6M', '--max-time', '2'];
      await curl(location, [...octets, ...range, ...slowly, '-X', 'PATCH', '-T', here().path('rest')], [28]);
      const reached = await settled(location);
      expect(reached.offset).to.be.within(offset, size - 1);
      ({ offset, location } = reached);
    }
    expect(offset, 'what the cut uploads left').to.be.greaterThan(0);
    await here().run('sh', ['-c', 'tail -c +"$1" "$2" > "$3"', 'sh', String(offset + 1), file, here().path('rest')]);
    const headers = [...octets, '-H', `Content-Range: ${offset}-${size - 1}`];
    const rest = await curl(location, [...headers, '-X', 'PATCH', '-T', here().path('rest')]);
    expect([rest.status, rest.headers.get('range')]).to.deep.equal([202, `0-${size - 1}`]);
    const end = withDigest(rest.headers.get('location') ?? '', digest);
    expect((await curl(end, ['-X', 'PUT', '-d', ''])).status).to.equal(201);
    expect((await curl(end, ['-X', 'PUT', '-d', ''])).status, 'the same PUT, as after a lost answer').to.equal(201);
    await expectStored(digest, file);
  });

  /** A registry notices late that a client is gone, and syncs what came: asked until it says the same for two seconds. */
  async function settled(location: string): Promise<{ offset: number; location: string }> {
    for (let before = -1, times = 0; ; times++) {
      const answer = await curl(location);
      expect(answer.status).to.equal(204);
      const range = answer.headers.get('range') ?? '';
      expect(range).to.match(/^0-\d+$/);
      // `0-0` is both nothing and one byte; nobody cuts after one.
      const end = Number(range.slice(2));
      const offset = end === 0 ? 0 : end + 1;
      if (offset !== before) times = 0;
      if (times === 4) return { offset, location: answer.headers.get('location') ?? '' };
      before = offset;
      await new Promise((done) => setTimeout(done, 500));
    }
  }

  it('refuses bytes that have another digest', async () => {
    const wrong = digestOfText('something else');
    const put = await curl(withDigest(await begin(), wrong), [...octets, '-X', 'PUT', '-T', file]);
    expect(put.status).to.equal(400);
    expect(JSON.parse(put.body).errors[0].code).to.equal('DIGEST_INVALID');
    expect((await curl(`${blobs()}/${wrong}`, ['-I'])).status).to.equal(404);
  });

  it('reads ranges, resumes a download and is told what did not change', async () => {
    expect((await curl(withDigest(await begin(), digest), [...octets, '-X', 'PUT', '-T', file])).status).to.equal(201);
    const bytes = await readFile(file);
    const total = bytes.length;
    const range = async (value: string): Promise<[number, string | undefined, Buffer]> => {
      const out = here().path('range.bin');
      const answer = await curl(`${blobs()}/${digest}`, ['-r', value, '-o', out]);
      return [answer.status, answer.headers.get('content-range'), await readFile(out)];
    };
    expect(await range('5-9')).to.deep.equal([206, `bytes 5-9/${total}`, bytes.subarray(5, 10)]);
    expect(await range('-7')).to.deep.equal([206, `bytes ${total - 7}-${total - 1}/${total}`, bytes.subarray(-7)]);
    const open = await range(`${total - 3}-`);
    expect(open).to.deep.equal([206, `bytes ${total - 3}-${total - 1}/${total}`, bytes.subarray(-3)]);
    expect((await range(`${total}-`))[0]).to.equal(416);

    const out = here().path('resumed.bin');
    const slowly = ['--limit-rate', '8M', '--max-time', '2'];
    await curl(`${blobs()}/${digest}`, [...slowly, '-o', out], [28]);
    expect((await stat(out)).size).to.be.within(1, total - 1);
    expect((await curl(`${blobs()}/${digest}`, ['-C', '-', '-o', out])).status).to.equal(206);
    await expectSameFile(out, file);

    const etag = (await curl(`${blobs()}/${digest}`, ['-I'])).headers.get('etag') ?? '';
    expect(etag).to.match(/^"/);
    expect((await curl(`${blobs()}/${digest}`, ['-H', `If-None-Match: ${etag}`])).status).to.equal(304);
  });

  it('mounts a blob in another repository, and pushes, tags, lists and deletes a manifest there', async () => {
    const other = `${here().repository}/other`;
    const mount = `/v2/${other}/blobs/uploads/?mount=${digest}&from=${here().repository}`;
    expect((await curl(mount, ['-X', 'POST', '-d', ''])).status).to.equal(201);
    const mediaType = 'application/vnd.oci.image.manifest.v1+json';
    const weights = { mediaType: 'application/octet-stream', digest, size: (await stat(file)).size };
    const manifest = JSON.stringify({
      schemaVersion: 2,
      mediaType,
      artifactType: 'application/x',
      config: weights,
      layers: [weights],
    });
    const put = (tag: string) =>
      curl(`/v2/${other}/manifests/${tag}`, [
        '-X',
        'PUT',
        '-H',
        `Content-Type: ${mediaType}`,
        '--data-binary',
        manifest,
      ]);
    for (const tag of ['b', 'a', 'c']) {
      const answer = await put(tag);
      expect(answer.status).to.equal(201);
      expect(answer.headers.get('docker-content-digest')).to.equal(digestOfText(manifest));
    }
    const got = await curl(`/v2/${other}/manifests/a`);
    expect([got.body, got.headers.get('content-type')]).to.deep.equal([manifest, mediaType]);

    const page = await curl(`/v2/${other}/tags/list?n=2`);
    expect(JSON.parse(page.body)).to.deep.equal({ name: other, tags: ['a', 'b'] });
    const next = /^<(.+)>; rel="next"$/.exec(page.headers.get('link') ?? '')?.[1] ?? '';
    expect(JSON.parse((await curl(next)).body).tags).to.deep.equal(['c']);

    expect((await curl(`/v2/${other}/manifests/a`, ['-X', 'DELETE'])).status).to.equal(202);
    expect((await curl(`/v2/${other}/manifests/a`, ['-I'])).status).to.equal(404);
    expect((await curl(`/v2/${other}/manifests/b`, ['-I'])).status).to.equal(200);
    expect((await curl(`/v2/${other}/manifests/${digestOfText(manifest)}`, ['-X', 'DELETE'])).status).to.equal(202);
    expect((await curl(`/v2/${other}/manifests/b`, ['-I'])).status).to.equal(404);
    expect((await curl(`${blobs()}/${digest}`, ['-I'])).status, 'the blob of the first repository').to.equal(200);
  });
});
