import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { digestOf, digestOfText, writeSeeded } from './bytes.js';
import { findClient } from './scenario.js';

const execute = promisify(execFile);

export interface Layout {
  folder: string;
  /** The name that index.json gives the image. */
  tag: string;
  digest: string;
  manifest: string;
}

/** A folder that is a root file system: a static busybox as `/bin/sh`, and a seeded file of weights. */
export async function writeRootfs(folder: string, seed: string, size: number): Promise<void> {
  const busybox = findClient('busybox');
  if (busybox === undefined) throw new Error('busybox is not installed');
  await mkdir(join(folder, 'bin'), { recursive: true });
  await mkdir(join(folder, 'proc'));
  await mkdir(join(folder, 'tmp'));
  for (const name of ['busybox', 'sh', 'cat', 'sha256sum']) {
    await copyFile(busybox, join(folder, 'bin', name));
    await chmod(join(folder, 'bin', name), 0o755);
  }
  await writeSeeded(join(folder, 'weights.bin'), seed, size);
}

/** An OCI layout with one image of two seeded layers. crane takes layers only if they are compressed. */
export async function writeLayout(folder: string, seed: string, size: number, gzip = true): Promise<Layout> {
  const tag = 'v1';
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const rootfs = join(folder, 'rootfs');
  await writeRootfs(rootfs, seed, size);
  const layers = [];
  const diffIds: string[] = [];
  for (const content of ['bin proc tmp', 'weights.bin']) {
    const tar = join(folder, 'layer.tar');
    const same = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner'];
    await execute('tar', [...same, '-cf', tar, '-C', rootfs, ...content.split(' ')]);
    diffIds.push(await digestOf(tar));
    if (gzip) await execute('gzip', ['-n1', tar]);
    const layer = gzip ? `${tar}.gz` : tar;
    const digest = await digestOf(layer);
    const mediaType = `application/vnd.oci.image.layer.v1.tar${gzip ? '+gzip' : ''}`;
    layers.push({ mediaType, digest, size: (await stat(layer)).size });
    await rename(layer, join(blobs, digest.slice('sha256:'.length)));
  }
  await rm(rootfs, { recursive: true });

  const put = async (mediaType: string, value: unknown) => {
    const text = JSON.stringify(value);
    const digest = digestOfText(text);
    await writeFile(join(blobs, digest.slice('sha256:'.length)), text);
    return { mediaType, digest, size: Buffer.byteLength(text) };
  };
  const config = await put('application/vnd.oci.image.config.v1+json', {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Env: ['PATH=/bin'], Cmd: ['/bin/sha256sum', '/weights.bin'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: layers.map(() => ({ created: '1970-01-01T00:00:00Z', created_by: 'weighhouse' })),
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = await put(mediaType, { schemaVersion: 2, mediaType, config, layers });
  const named = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': tag } };
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
  const text = await readFile(join(blobs, manifest.digest.slice('sha256:'.length)), 'utf8');
  return { folder, tag, digest: manifest.digest, manifest: text };
}

/** The digest of the weights inside an image of `writeRootfs`, as `sha256sum` in the running image has to print it. */
export async function seededDigest(folder: string, seed: string, size: number): Promise<string> {
  const file = await writeSeeded(join(folder, `expected-${seed}`), seed, size);
  const digest = await digestOf(file);
  await rm(file);
  return digest.slice('sha256:'.length);
}
