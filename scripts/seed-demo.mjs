// Fills a running registry with a small set for trying things out: six models in several packagings, with real headers, aliases,
// deployments, a draft, a report and a signature (scripts/demo/models.mjs). The second run finds it there and changes nothing.
//
//   npm run seed:demo -- [--url http://127.0.0.1:5000] [--key wh_…]
//
// Without --url: WEIGHHOUSE_URL, or where REGISTRY_LISTEN says; without --key: WEIGHHOUSE_KEY, REGISTRY_ADMIN_KEY, or what
// `npm start` keeps in data/admin-key (below REGISTRY_DATA_DIR).
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { filesOf } from './demo/files.mjs';
import { MODELS } from './demo/models.mjs';
import { digestOf, packRelease, packSignature } from './demo/packing.mjs';
import { Registry } from './demo/registry.mjs';

const { env } = process;

function defaultUrl() {
  // A registry that listens everywhere is reached here.
  const listen = (env.REGISTRY_LISTEN || '127.0.0.1:5000').replace(/^(?:0\.0\.0\.0|\[::\])?:/, '127.0.0.1:');
  return `${env.REGISTRY_TLS_CERT ? 'https' : 'http'}://${listen}`;
}

async function defaultKey() {
  const path = join(env.REGISTRY_DATA_DIR || './data', 'admin-key');
  const text = await readFile(path, 'utf8').catch(() => '');
  if (text.trim() === '')
    throw new Error(`no key: give --key, or WEIGHHOUSE_KEY, or start the registry, which writes ${path}`);
  return text.trim();
}

/** Counts what was made, so that a run can tell. */
class Tally {
  made = 0;
  there = 0;

  add(isNew) {
    if (isNew) this.made++;
    else this.there++;
  }

  toString() {
    return this.made > 0 ? `${this.made + this.there} (${this.made} new)` : `${this.there}`;
  }
}

/** Brings one model and all that belongs to it. @returns a row of the table */
async function seedModel(registry, described) {
  const { storage_path: repository, name } = described.model;
  const found = await registry.api('GET', `/models/${encodeURIComponent(name)}`);
  const model = found ?? (await registry.api('POST', '/models', described.model));
  const releases = new Tally();
  let bytes = 0;
  for (const version of described.versions)
    for (const quantization of described.quantizations) {
      const files = filesOf(described, version, quantization);
      bytes += files.reduce((sum, file) => sum + file.bytes.length, 0);
      releases.add(await pushRelease(registry, repository, described, version, quantization, files));
    }
  const byTag = new Map((await registry.list(`/models/${model.id}/releases`)).map((release) => [release.tag, release]));
  for (const [alias, tag] of Object.entries(described.aliases))
    await registry.api('PUT', `/models/${model.id}/aliases/${alias}`, { release_id: byTag.get(tag).id });
  const deployments = new Tally();
  for (const [environment, tags] of Object.entries(described.deployments))
    await deploy(
      registry,
      { model, byTag, environment, tags, rolledBack: described.rolledBack === environment },
      deployments,
    );
  const extras = [];
  for (const [tag, notes] of Object.entries(described.deprecated ?? {})) {
    await deprecate(registry, byTag.get(tag), notes);
    extras.push(`${tag} deprecated`);
  }
  if (described.signed) extras.push(await sign(registry, repository, byTag.get(described.signed)));
  if (described.report) extras.push(await attachReport(registry, byTag, described.report));
  if (described.draft) extras.push(await makeDraft(registry, model, described));
  if (described.model.immutable) extras.push('immutable');
  return {
    model: `${name}${found ? '' : ' (new)'}`,
    repository,
    packed: described.packing,
    releases: `${releases}`,
    kB: (bytes / 1000).toFixed(0),
    deployments: `${deployments}`,
    besides: extras.join(', '),
  };
}

async function pushRelease(registry, repository, described, version, quantization, files) {
  const packed = packRelease(described, version, quantization, files);
  for (const bytes of [...files.map((file) => file.bytes), packed.config]) await registry.pushBlob(repository, bytes);
  return await registry.pushManifest(repository, `${version}-${quantization}`, packed);
}

/** Deploys in turn what was not deployed there by an earlier run, and goes back by one if the story says so. */
async function deploy(registry, { model, byTag, environment, tags, rolledBack }, tally) {
  const earlier = await registry.list('/deployments', { model: model.id, environment });
  let last;
  for (const tag of tags) {
    const release = byTag.get(tag);
    const there = earlier.find((deployment) => deployment.release_id === release.id);
    const endpoint = `https://${environment}.example/${model.storage_path}`;
    const wanted = { release_id: release.id, environment, endpoint, replicas: environment === 'prod' ? 3 : 1 };
    last = there ? undefined : await registry.api('POST', '/deployments', wanted);
    tally.add(!there);
  }
  if (rolledBack && last) await registry.api('POST', `/deployments/${last.id}/rollback`);
}

async function deprecate(registry, release, notes) {
  if (release.status === 'deprecated') return;
  await registry.api('PATCH', `/releases/${release.id}`, { status: 'deprecated', release_notes: notes });
}

/** A manifest that refers to the release's, as a signature does. */
async function sign(registry, repository, release) {
  const manifest = await registry.manifestOf(release.id);
  const packed = packSignature({ mediaType: release.media_type, digest: release.digest, size: manifest.length });
  for (const bytes of [packed.envelope, packed.config]) await registry.pushBlob(repository, bytes);
  await registry.pushManifest(repository, digestOf(packed.manifest), packed);
  return `${release.tag} signed`;
}

async function attachReport(registry, byTag, { tag, name, content }) {
  const release = byTag.get(tag);
  const attached = await registry.list(`/releases/${release.id}/artifacts`, { kind: 'attached' });
  const bytes = Buffer.from(`${JSON.stringify(content, null, 2)}\n`);
  if (!attached.some((artifact) => artifact.name === name))
    await registry.upload(release.id, { path: name, bytes }, 'application/json');
  return `${tag} evaluated`;
}

/** A release that is not published yet, with its files. */
async function makeDraft(registry, model, described) {
  const { version, quantization, release_notes } = described.draft;
  const query = { version, quantization };
  const [found] = await registry.list(`/models/${model.id}/releases`, query);
  const draft = found ?? (await registry.api('POST', '/releases', { model_id: model.id, ...query, release_notes }));
  // Whoever has published it meanwhile keeps it so.
  if (draft.status === 'draft') {
    const there = new Set((await registry.list(`/releases/${draft.id}/artifacts`)).map(({ path }) => path));
    for (const file of filesOf(described, version, quantization))
      if (!there.has(file.path)) await registry.upload(draft.id, file, 'application/octet-stream');
  }
  return `${draft.tag} ${draft.status}`;
}

function print(rows) {
  const columns = Object.keys(rows[0]);
  const widths = columns.map((column) => Math.max(column.length, ...rows.map((row) => row[column].length)));
  const line = (cells) =>
    console.info(
      cells
        .map((cell, index) => cell.padEnd(widths[index]))
        .join('  ')
        .trimEnd(),
    );
  line(columns);
  for (const row of rows) line(columns.map((column) => row[column]));
}

async function main() {
  const options = { url: { type: 'string' }, key: { type: 'string' } };
  const { values } = parseArgs({ options });
  const url = values.url || env.WEIGHHOUSE_URL || defaultUrl();
  const key = values.key || env.WEIGHHOUSE_KEY || env.REGISTRY_ADMIN_KEY || (await defaultKey());
  const registry = new Registry(url, key);
  const rows = [];
  for (const described of MODELS) rows.push(await seedModel(registry, described));
  print(rows);
  console.info(`\nThey are at ${url}/api/v1/models; what can be asked is described at ${url}/api/docs.`);
}

try {
  await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
