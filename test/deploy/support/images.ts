// The images of the tests: the registry's by the Dockerfile, on bases that stand for the official ones.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from 'mocha';
import { notRun } from '../../support/not-run.js';
import { Engine, engineMissing } from './engine.js';
import { CACHE, ROOT, run } from './run.js';

/** What the Dockerfile makes here. */
export const REGISTRY_IMAGE = 'weighhouse:test';
/** Debian's nginx, PostgreSQL and Ceph in one. */
export const SERVICES_IMAGE = 'services:test';
/** The same with an entrypoint like that of the official postgres. */
export const POSTGRES_IMAGE = 'postgres:test';

let made: Promise<Engine> | undefined;

/** The engine with the images, its containers on a network of their own; made when the first test wants it. */
export async function engine(context: Context): Promise<Engine> {
  const missing = engineMissing();
  if (missing) notRun(context, 'dockerd', missing);
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
    await build(engine);
    await engine.stop();
    await engine.start({ apart: true });
    return engine;
  } catch (error) {
    await engine.dispose();
    throw error;
  }
}

/** `docker build`, as the README has it, with this machine's way to packages as secrets. */
async function build(engine: Engine): Promise<void> {
  const at = (name: string) => join(engine.folder, name);
  const config = async (key: string) => (await run('npm', ['config', 'get', key])).stdout.trim();
  const lines = [`registry=${await config('registry')}`];
  const ca = await config('cafile');
  if (ca !== 'null' && ca !== '') lines.push('cafile=/run/secrets/ca');
  await writeFile(at('npmrc'), `${lines.join('\n')}\n`);
  await writeFile(at('ca'), lines.length > 1 ? await readFile(ca) : '');
  const secrets = ['--secret', `id=npmrc,src=${at('npmrc')}`, '--secret', `id=ca,src=${at('ca')}`];
  const bases = ['--build-arg', 'NODE_IMAGE=node:test', '--build-arg', 'BASE_IMAGE=debian:test'];
  await engine.docker(['buildx', 'build', '--network', 'host', ...secrets, ...bases, '--tag', REGISTRY_IMAGE, ROOT]);
}
