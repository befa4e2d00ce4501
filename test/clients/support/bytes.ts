import { createCipheriv, createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect } from 'chai';

export const MiB = 1024 * 1024;

/** The same bytes for the same seed, as fast as the disk takes them, and not to be compressed. */
export async function writeSeeded(file: string, seed: string, size: number): Promise<string> {
  await mkdir(dirname(file), { recursive: true });
  const key = createHash('sha256').update(seed).digest();
  const stream = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  const zeros = Buffer.alloc(Math.min(size, MiB));
  const handle = await open(file, 'w');
  try {
    for (let left = size; left > 0; left -= zeros.length) {
      await handle.write(stream.update(zeros.subarray(0, Math.min(left, zeros.length))));
    }
  } finally {
    await handle.close();
  }
  return file;
}

export async function digestOf(file: string, algorithm: 'sha256' | 'sha512' = 'sha256'): Promise<string> {
  const hash = createHash(algorithm);
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return `${algorithm}:${hash.digest('hex')}`;
}

export function digestOfText(text: string | Buffer, algorithm: 'sha256' | 'sha512' = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(text).digest('hex')}`;
}

export async function expectSameFile(actual: string, expected: string): Promise<void> {
  expect(await digestOf(actual), `${actual} beside ${expected}`).to.equal(await digestOf(expected));
}

/** Both folders hold the same files with the same bytes, and no others. */
export async function expectSameTree(actual: string, expected: string): Promise<void> {
  const digests = async (folder: string): Promise<Record<string, string>> => {
    const found: Record<string, string> = {};
    for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
      const file = join(entry.parentPath, entry.name);
      if (entry.isFile()) found[file.slice(folder.length)] = await digestOf(file);
    }
    return found;
  };
  expect(await digests(actual)).to.deep.equal(await digests(expected));
}
