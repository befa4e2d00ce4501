import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import pg from 'pg';
import { digestOf } from './bytes.js';
import { pull, send } from './exchange.js';
import type { TagStory } from './artifact.js';
import type { Upload } from './upload.js';

/** All that the clients of a test know: what was acknowledged, what may have happened unheard, what never was asked. */
export class Ledger {
  readonly uploads: Upload[] = [];
  readonly tags: TagStory[] = [];

  /**
   * Compares what the registry shows with what was acknowledged. Nothing may be under way.
   * @param whole whether every committed blob is pulled and hashed, not only asked for.
   */
  async check(host: string, whole: boolean): Promise<void> {
    for (const upload of this.uploads) await checkUpload(host, upload, whole);
    const repositories = new Set(this.tags.map((story) => story.repository));
    for (const repository of repositories) {
      await checkTags(
        host,
        repository,
        this.tags.filter((story) => story.repository === repository),
      );
    }
  }
}

async function checkUpload(host: string, upload: Upload, whole: boolean): Promise<void> {
  if (!upload.begun) return;
  const { blobPath, content } = upload;
  const head = await send(host, 'HEAD', blobPath);
  if (upload.committed) expect(head?.status, `${blobPath}, which was acknowledged`).to.equal(200);
  else if (upload.attempted) expect(head?.status, `${blobPath}, which may be there`).to.be.oneOf([200, 404]);
  else expect(head?.status, `${blobPath}, which nobody ever committed`).to.equal(404);
  if (head?.status === 200) {
    expect(Number(head.headers['content-length']), blobPath).to.equal(content.size);
    if (whole || !upload.committed) {
      const { status, size, digest } = (await pull(host, blobPath)) ?? {};
      expect({ status, size, digest }, blobPath).to.deep.equal({
        status: 200,
        size: content.size,
        digest: content.digest,
      });
    }
  }
  const stranger = await send(host, 'HEAD', `/v2/stranger/${blobPath.slice(4)}`);
  expect(stranger?.status, `${blobPath} in a repository that it was never pushed to`).to.equal(404);
  // Throws when less is there than was told, or more than was sent.
  if (!upload.committed) expect(await upload.tryStatus(), upload.path).not.to.equal('lost');
}

async function checkTags(host: string, repository: string, stories: readonly TagStory[]): Promise<void> {
  const list = await send(host, 'GET', `/v2/${repository}/tags/list`);
  if (list?.status === 404 && stories.every((story) => story.acknowledged === undefined)) return;
  expect(list?.status, `the tags of ${repository}`).to.equal(200);
  const { tags } = JSON.parse(list?.body.toString() ?? '') as { tags: string[] };
  for (const { tag, acknowledged, unheard } of stories) {
    if (acknowledged === undefined && !tags.includes(tag)) continue;
    expect(tags, repository).to.include(tag);
    const manifest = await send(host, 'GET', `/v2/${repository}/manifests/${tag}`);
    expect(manifest?.status, `${repository}:${tag}`).to.equal(200);
    expect(digestOf(manifest?.body ?? Buffer.alloc(0))).to.equal(manifest?.headers['docker-content-digest']);
    const allowed = [...unheard, ...(acknowledged === undefined ? [] : [acknowledged])];
    expect(allowed, `${repository}:${tag}`).to.include(manifest?.headers['docker-content-digest']);
  }
  const known = stories.map(({ tag }) => tag);
  expect(
    tags.filter((tag) => !known.includes(tag)),
    `tags of ${repository} that nobody put`,
  ).to.deep.equal([]);
}

interface SegmentRow {
  readonly key: string;
  readonly length: number;
  readonly object_size: number | null;
  readonly position: number | null;
  readonly inline: boolean;
}

/** Runs one query on a connection of its own. */
export async function ask<Row extends object>(url: string, text: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end();
  }
}

/** Files of the store, by key. */
export async function filesOf(root: string): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  for (const folder of await readdir(root)) {
    if (!/^[0-9a-f]{2}$/.test(folder)) continue;
    for (const name of await readdir(join(root, folder)))
      sizes.set(`${folder}/${name}`, (await stat(join(root, folder, name))).size);
  }
  return sizes;
}

/** Holds rows and files against each other: bytes that rows name are there, and no file is there that no row names. */
export async function checkStore(url: string, root: string): Promise<void> {
  const files = await filesOf(root);
  const segments = await ask<SegmentRow>(
    url,
    'select key, length::float8, object_size::float8, position, bytes is not null as inline from segments',
  );
  for (const { key, length, object_size, inline } of segments) {
    if (inline) {
      expect(files.has(key), `a file of ${key}, whose bytes are in its row`).to.equal(false);
      continue;
    }
    if (length > 0) expect(files.get(key) ?? -1, `bytes of ${key}`).to.be.at.least(length);
    if (object_size !== null && length > 0) expect(files.get(key), `size of ${key}`).to.equal(object_size);
  }
  const removals = await ask<{ key: string }>(url, 'select key from removals');
  const named = new Set([...segments, ...removals].map(({ key }) => key));
  expect(
    [...files.keys()].filter((key) => !named.has(key)),
    'files that no row names',
  ).to.deep.equal([]);
  const wrong = await ask(
    url,
    `select b.digest from blobs b left join segments s on s.body = b.body and s.position is not null
      group by b.digest, b.size having b.size <> coalesce(sum(s.length), 0)`,
  );
  expect(wrong, 'blobs whose segments do not add up').to.deep.equal([]);
}
