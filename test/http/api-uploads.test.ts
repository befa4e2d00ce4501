import { expect } from 'chai';
import { randomUUID } from 'node:crypto';
import { onDatabase } from '../support/keys.js';
import type { TestServer } from '../support/server.js';
import { type Ask, asker, faultsOf, pushFiles, releaseOf, type Resource, told } from './api-scene.js';
import { bytesOf, digestOf } from './content.js';
import { sharedServer } from './shared-server.js';
import { head, Wire } from './wire.js';

const PLACE = 'api-uploads/one';
const OCTETS = { headers: { 'content-type': 'application/octet-stream' } };

describe('uploads of artifacts over HTTP', () => {
  let server: TestServer;
  let ask: Ask;
  let model: Resource;
  let version = 0;
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
    model = await told(ask('POST', '/models', { name: PLACE, storage_path: PLACE }), 201);
  });

  const draft = () => told(ask('POST', '/releases', { model_id: model.id, version: `v0.${++version}` }), 201);
  const files = async ({ id }: Resource) => (await told(ask('GET', `/releases/${id}/artifacts`))).items as Resource[];
  const raw = (query: Readonly<Record<string, string>>, body: string | Buffer) =>
    ask('POST', `/artifacts/upload?${new URLSearchParams(query)}`, body, OCTETS);
  const form = (fields: readonly (readonly [string, string | Blob, string?])[], query = '') => {
    const body = new FormData();
    for (const [name, value, filename] of fields)
      if (typeof value === 'string') body.append(name, value);
      else body.append(name, value, filename);
    return ask('POST', `/artifacts/upload${query}`, body);
  };
  /** What is left of an upload: blobs of the digest, sessions, and segments that are neither a blob's nor queued to go. */
  const leftovers = async (digest: string) =>
    await onDatabase(server, async (database) => {
      const [row] = await database.query<Resource>(
        `select (select count(*) from blobs where digest = $1) as blobs,
                (select count(*) from uploads u join repositories r on r.id = u.repository
                  where r.name = $2 and u.committed_digest is null) as sessions,
                (select count(*) from segments s where not exists (select from blobs b where b.body = s.body)
                    and not exists (select from uploads u where u.body = s.body)) as segments`,
        [digest, PLACE],
      );
      return row;
    });
  const NOTHING = { blobs: 0, sessions: 0, segments: 0 };

  it('are the body itself, described by the query', async () => {
    const release = await draft();
    const bytes = bytesOf('raw', 300_000);
    const query = { release_id: String(release.id), path: 'weights/model.safetensors', checksum: digestOf(bytes) };
    const answer = await raw(query, bytes);
    const artifact = await told(Promise.resolve(answer), 201);
    expect(answer.headers.get('location')).to.equal(`/api/v1/artifacts/${artifact.id}`);
    expect(artifact).to.include({
      release_id: release.id,
      name: 'model.safetensors',
      path: 'weights/model.safetensors',
      kind: 'layer',
      digest: digestOf(bytes),
      checksum: digestOf(bytes),
      size_bytes: 300_000,
      format: 'safetensors',
      media_type: 'application/octet-stream',
    });
    expect((await ask('GET', `/artifacts/${artifact.id}/download`)).bytes.equals(bytes)).to.equal(true);
    const by512 = await told(raw({ ...query, path: 'other', checksum: digestOf(bytes, 'sha512') }, bytes), 201);
    expect(by512.checksum).to.equal(digestOf(bytes, 'sha512'));
    const none = await told(raw({ release_id: String(release.id), name: 'empty' }, ''), 201);
    expect(none).to.include({ size_bytes: 0, digest: digestOf('') });
  });

  it('are the last part of a form, described by the fields before it', async () => {
    const release = await draft();
    const answer = await form([
      ['release_id', String(release.id)],
      ['path', 'reports/eval.json'],
      ['media_type', 'application/json'],
      ['metadata', '{"score":1}'],
      ['checksum', digestOf('{"score":1}')],
      ['file', new Blob(['{"score":1}']), 'ignored.txt'],
    ]);
    expect(await told(Promise.resolve(answer), 201)).to.deep.include({
      name: 'eval.json',
      path: 'reports/eval.json',
      media_type: 'application/json',
      metadata: { score: 1 },
      size_bytes: 11,
    });
    const named = await told(
      form([['file', new Blob(['x'], { type: 'application/x-y' }), 'named.bin']], `?release_id=${release.id}`),
      201,
    );
    expect(named).to.include({ name: 'named.bin', path: 'named.bin', media_type: 'application/x-y' });
  });

  it('are attached to what is published, where clients find them', async () => {
    await pushFiles(server, PLACE, 'v9.0', { 'model.gguf': 'published' });
    const release = await releaseOf(ask, PLACE, 'v9.0');
    const query = {
      release_id: String(release.id),
      name: 'report.json',
      media_type: 'application/json',
      artifact_type: 'application/vnd.eval.report.v1',
    };
    expect(await told(raw(query, '{"score":2}'), 201)).to.include({ kind: 'attached', name: 'report.json' });
    const found = await server.request(
      'GET',
      `/v2/${PLACE}/referrers/${release.digest}?artifactType=${query.artifact_type}`,
    );
    const { manifests } = (await found.json()) as { manifests: Resource[] };
    expect(manifests.map(({ artifactType }) => artifactType)).to.deep.equal([query.artifact_type]);
  });

  it('with a wrong checksum leave nothing behind', async () => {
    const release = await draft();
    for (const wrong of [digestOf('something else'), digestOf('something else', 'sha512')]) {
      const query = { release_id: String(release.id), name: 'a', checksum: wrong };
      expect(await faultsOf(raw(query, 'not what was said'))).to.deep.equal(['body.checksum']);
      const fields = [
        ['release_id', String(release.id)],
        ['checksum', wrong],
        ['file', new Blob(['not what was said']), 'a'],
      ] as const;
      expect(await faultsOf(form(fields))).to.deep.equal(['body.checksum']);
    }
    expect(await files(release)).to.deep.equal([]);
    expect(await leftovers(digestOf('not what was said'))).to.deep.equal(NOTHING);
  });

  it('refuse forms that say things too late, twice, or not at all, and keep nothing of them', async () => {
    const release_id = String((await draft()).id);
    const file = ['file', new Blob(['of a bad form']), 'a.bin'] as const;
    const id = ['release_id', release_id] as const;
    for (const [place, fields] of [
      ['body.path', [id, file, ['path', 'late.bin']]],
      ['body', [id, ['path', 'a'], ['path', 'b'], file]],
      ['body.file', [id, file, file]],
      ['body.file', [id, file, file, file]],
      ['body', [id]],
    ] as const)
      expect(await faultsOf(form(fields)), JSON.stringify(fields)).to.deep.equal([place]);
    expect(
      await faultsOf(form([['bogus', 'x'], ['metadata', '[]'], ['checksum', 'md5:x'], ['media_type', 'x'], file])),
    ).to.deep.equal(['body.bogus', 'body.checksum', 'body.media_type', 'body.metadata', 'body.release_id']);
    const absent = [
      ['release_id', randomUUID()],
      ['checksum', 'md5:x'],
      ['path', '../x'],
    ] as const;
    expect(await faultsOf(form([...absent, file]))).to.deep.equal(['body.checksum', 'body.path', 'body.release_id']);
    expect(await faultsOf(form([['release_id', release_id], file], `?release_id=${randomUUID()}`))).to.deep.equal([
      'body.release_id',
    ]);
    expect(await files({ id: release_id })).to.deep.equal([]);
    expect(await leftovers(digestOf('of a bad form'))).to.deep.equal(NOTHING);
    const odd = { headers: { 'content-type': 'multipart/mixed; boundary=x' } };
    expect((await ask('POST', `/artifacts/upload?release_id=${release_id}&name=a`, 'x', odd)).status).to.equal(415);
    const broken = { headers: { 'content-type': 'multipart/form-data; boundary=x' } };
    expect(
      await faultsOf(ask('POST', `/artifacts/upload?release_id=${release_id}&name=a`, '--x\r\nbroken', broken)),
    ).to.deep.equal(['body']);
  });

  it('stay in the folder that they are pulled into', async () => {
    const release = await draft();
    const release_id = String(release.id);
    for (const path of ['../x', '/etc/passwd', 'a/../../x', 'a\\b', '.', 'a//b', 'C:/x']) {
      expect(await faultsOf(raw({ release_id, path }, 'x')), path).to.satisfy(([place]: string[]) =>
        /\.path$/.test(place ?? ''),
      );
      const fields = [
        ['release_id', release_id],
        ['path', path],
        ['file', new Blob(['x']), 'a'],
      ] as const;
      expect(await faultsOf(form(fields)), path).to.deep.equal(['body.path']);
    }
    expect(await faultsOf(raw({ release_id, name: '../x' }, 'x'))).to.deep.equal(['body.name']);
    // A browser gives the path of the file along, of which the name is taken.
    expect(
      await told(
        form([
          ['release_id', release_id],
          ['file', new Blob(['x']), '../../etc/passwd'],
        ]),
        201,
      ),
    ).to.include({ path: 'passwd' });
    expect(await files(release)).to.have.lengthOf(1);
  });

  it('say what is missing or wrong in the query, all at once', async () => {
    expect(await faultsOf(raw({}, 'x'))).to.deep.equal(['body.name', 'body.release_id']);
    expect(await faultsOf(raw({ release_id: randomUUID(), name: '../x' }, 'x'))).to.deep.equal([
      'body.name',
      'body.release_id',
    ]);
    expect(await faultsOf(raw({ release_id: String((await draft()).id) }, 'x'))).to.deep.equal(['body.name']);
    expect(await faultsOf(raw({ release_id: randomUUID(), name: 'a' }, 'x'))).to.deep.equal(['body.release_id']);
    const wrong = { release_id: 'x', name: 'n'.repeat(256), checksum: 'x', media_type: 'x', bogus: '1' };
    expect(await faultsOf(raw(wrong, 'x'))).to.deep.equal(
      Object.keys(wrong)
        .map((name) => `query.${name}`)
        .sort(),
    );
  });

  it('are made once for each Idempotency-Key', async () => {
    const release = await draft();
    const path = `/artifacts/upload?release_id=${release.id}&name=once.bin`;
    const headers = { ...OCTETS.headers, 'idempotency-key': 'upload-1' };
    const first = await told(ask('POST', path, 'the same', { headers }), 201);
    expect(await told(ask('POST', path, 'the same', { headers }), 201)).to.deep.equal(first);
    expect(await faultsOf(ask('POST', path, 'another', { headers }))).to.deep.equal(['header.Idempotency-Key']);
    expect((await ask('POST', path, 'the same', OCTETS)).status).to.equal(409);
    expect(await files(release)).to.have.lengthOf(1);
  });

  it('queue their bytes for the collector when the draft goes, by whichever way', async () => {
    const queued = async (text: string) =>
      await onDatabase(
        server,
        async (database) =>
          (
            await database.query(
              'select from (select digest from reviews union all select digest from review_requests) q where digest = $1',
              [digestOf(text)],
            )
          ).length,
      );
    const [deleted, pushed] = [await draft(), await draft()];
    await told(raw({ release_id: String(deleted.id), name: 'a' }, 'of a deleted draft'), 201);
    await told(ask('DELETE', `/releases/${deleted.id}`), 204);
    expect(await queued('of a deleted draft')).to.equal(1);
    await told(raw({ release_id: String(pushed.id), name: 'a' }, 'of a draft that was pushed over'), 201);
    await pushFiles(server, PLACE, String(pushed.tag), { 'b.bin': 'pushed over it' });
    expect(await queued('of a draft that was pushed over')).to.equal(1);
    const other = await told(ask('POST', '/models', { name: 'uploads gone', storage_path: 'api-uploads/gone' }), 201);
    const last = await told(ask('POST', '/releases', { model_id: other.id, version: 'v1' }), 201);
    await told(raw({ release_id: String(last.id), name: 'a' }, 'of a deleted model'), 201);
    await told(ask('DELETE', `/models/${other.id}`), 204);
    expect(await queued('of a deleted model')).to.equal(1);
  });

  for (const kind of ['raw', 'form'])
    it(`that break off in the middle leave nothing behind (${kind})`, async () => {
      const release = await draft();
      const size = 64 * 1024 * 1024;
      const bytes = Buffer.alloc(size, kind);
      const sessions = async () => (await leftovers(digestOf(bytes)))?.sessions as number;
      const target = `/api/v1/artifacts/upload?release_id=${release.id}&name=large.bin`;
      const type = kind === 'raw' ? 'application/octet-stream' : 'multipart/form-data; boundary=edge';
      const before =
        kind === 'raw' ? '' : '--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n';
      const wire = (await Wire.open(server.host)).write(
        head('POST', target, `Content-Type: ${type}`, `Content-Length: ${size}`),
      );
      wire.write(before);
      await new Promise((sent) => wire.socket.write(bytes.subarray(0, size / 2), sent));
      await until(async () => (await sessions()) === 1);
      wire.socket.destroy();
      await until(async () => (await sessions()) === 0);
      expect(await leftovers(digestOf(bytes))).to.deep.equal(NOTHING);
      expect(await files(release)).to.deep.equal([]);
    });

  async function until(condition: () => Promise<boolean>): Promise<void> {
    for (const deadline = performance.now() + 15_000; !(await condition()); ) {
      if (performance.now() > deadline) throw new Error('it did not come to that in time');
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
});
