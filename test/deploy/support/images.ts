// The images of the tests: the registry's by the Dockerfile, on bases that stand for the official ones.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from 'mocha';
import { notRun } from '../../support/not-run.js';
import { Engine, engineMissing } from './engine.js';
import { CACHE, ROOT, run } from './run.js';

/** What the Dockerfile makes here. */
export const REGISTRY_IMAGE = 'weighhouse:test';
/** The same without PostgreSQL. */
export const BARE_IMAGE = 'weighhouse:bare';
/** In the file of npm's settings that the build is given; nothing of that file may stay in an image. */
export const SECRET = 'a-word-that-only-the-build-knows';
/** Debian's nginx, PostgreSQL and Ceph in one. */
export const SERVICES_IMAGE = 'services:test';
/** The same with an entrypoint like that of the official postgres. */
export const POSTGRES_IMAGE = 'postgres:test';

const MAKE_MS = 900_000;
let made: Promise<Engine> | undefined;

/** The engine with the images, its containers on a network of their own; made when the first test wants it. */
export async function engine(context: Context): Promise<Engine> {
  const missing = engineMissing();
  if (missing) notRun(context, 'dockerd', missing);
  // The first time it builds every image.
  context.timeout(MAKE_MS);
  made ??= make();
  return await made;
}

export async function disposeEngine(): Promise<void> {
  await (await made?.catch(() => undefined))?.dispose();
}

async function make(): Promise<Engine> {
  const images = join(CACHE, 'images');
  await run(join(ROOT, 'test/deploy/support/make-images.sh'), [images]);
  const engine = await Engine.make();
  try {
    await engine.start({ apart: false });
    for (const name of ['node', 'debian']) await engine.docker(['import', join(images, `${name}.tar`), `${name}:test`]);
    await engine.docker(['import', join(images, 'services.tar'), SERVICES_IMAGE]);
    const postgres = `FROM ${SERVICES_IMAGE}\nENTRYPOINT ["docker-entrypoint.sh"]\nCMD ["postgres"]\n`;
    await engine.docker(['buildx', 'build', '--tag', POSTGRES_IMAGE, '-'], { input: postgres });
    await build(engine, REGISTRY_IMAGE);
    await build(engine, BARE_IMAGE, ['--build-arg', 'EMBEDDED_POSTGRES=no']);
    await engine.stop();
    await engine.start({ apart: true });
    return engine;
  } catch (error) {
    await engine.dispose();
    throw error;
  }
}

/** `docker build`, as the README has it, with this machine's way to packages as secrets. */
async function build(engine: Engine, image: string, more: readonly string[] = []): Promise<void> {
  const at = (name: string) => join(engine.folder, name);
  const config = async (key: string) => (await run('npm', ['config', 'get', key])).stdout.trim();
  const lines = [`registry=${await config('registry')}`, `//packages.invalid/:_authToken=${SECRET}`];
  const ca = await config('cafile');
  if (ca !== 'null' && ca !== '') lines.push('cafile=/run/secrets/ca');
  await writeFile(at('npmrc'), `${lines.join('\n')}\n`);
  await writeFile(at('ca'), ca !== 'null' && ca !== '' ? await readFile(ca) : '');
  const secrets = ['--secret', `id=npmrc,src=${at('npmrc')}`, '--secret', `id=ca,src=${at('ca')}`];
  const bases = ['--build-arg', 'NODE_IMAGE=node:test', '--build-arg', 'BASE_IMAGE=debian:test'];
  const args = [...secrets, ...bases, ...more, '--tag', image, ROOT];
  await engine.docker(['buildx', 'build', '--network', 'host', ...args]);
}
