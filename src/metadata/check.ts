import type { Database, Queries } from '../database/connect.js';
import { readTag } from '../weights/tag.js';
import { versionOrder } from '../weights/version.js';
import { filesOf } from '../weights/packaging.js';
import { readManifest, storedContent } from './release-content.js';
import type { Digest } from '../oci/digest.js';

/** What must hold over the whole database, whatever happened: a name, and what breaks it. */
export interface Checked {
  readonly name: string;
  /** Each a sentence; at most MAX_FAULTS of them. */
  readonly faults: readonly string[];
}

/** As many as one would read. */
export const MAX_FAULTS = 100;
const PAGE = 500;

/** Goes through all invariants of models, releases and bytes, one after the other. Beside a registry that serves, too. */
export async function* checkAll(database: Database): AsyncGenerator<Checked, void> {
  for (const [name, statement] of STATEMENTS) {
    const rows = await database.query<{ fault: string }>(`${statement} limit ${MAX_FAULTS}`);
    yield { name, faults: rows.map((row) => row.fault) };
  }
  yield { name: 'releases are what the tags say', faults: await eachModel(database, checkTags) };
  yield { name: 'artifacts are what the manifests say', faults: await eachModel(database, checkLayers) };
}

/** Each selects a sentence for every row that is wrong. */
const STATEMENTS: readonly (readonly [name: string, statement: string])[] = [
  [
    'a model has the repository of its storage_path',
    `select format('model %s: storage_path %s, but its repository is %s', m.id, m.storage_path, r.name) as fault
       from models m join repositories r on r.id = m.repository_id where r.name <> m.storage_path`,
  ],
  [
    'a deployment is of its release’s model',
    `select format('deployment %s: model %s, its release is of %s', d.id, d.model_id, r.model_id) as fault
       from deployments d join releases r on r.id = d.release_id where r.model_id <> d.model_id`,
  ],
  [
    // What was superseded may be gone and become the target of a rollback later, which is then refused.
    'what a pending or active deployment pins is there',
    `select format('deployment %s in %s: manifest %s is gone', d.id, d.environment, d.digest) as fault
       from deployments d join models m on m.id = d.model_id
      where d.status in ('pending', 'active') and not exists (select from manifests f where f.repository = m.repository_id and f.digest = d.digest)`,
  ],
  [
    'only files of drafts hold their blobs themselves',
    `select format('artifact %s: of a release that is %s, blob %s', a.id, r.status, coalesce(a.blob, 'not held')) as fault
       from artifacts a join releases r on r.id = a.release_id
      where a.kind = 'layer' and (a.blob is not null) <> (r.status = 'draft')`,
  ],
  [
    'what is attached refers to its release',
    `select format('artifact %s: %s does not refer to %s', a.id, a.manifest, r.digest) as fault
       from artifacts a join releases r on r.id = a.release_id join models m on m.id = r.model_id
      where a.kind = 'attached' and not exists (
        select from manifests f where f.repository = m.repository_id and f.digest = a.manifest and f.subject = r.digest)`,
  ],
  [
    'a blob is as long as its segments',
    `select format('blob %s: %s bytes, its segments have %s', b.digest, b.size, coalesce(s.length, 0)) as fault
       from blobs b left join lateral (select sum(length) as length from segments where body = b.body and position is not null) s on true
      where b.size <> coalesce(s.length, 0)`,
  ],
];

interface ModelRow {
  readonly id: string;
  readonly name: string;
  readonly repository_id: number;
}

/** Runs a check for each model, each at one moment of the database. */
async function eachModel(
  database: Database,
  check: (queries: Queries, model: ModelRow) => Promise<string[]>,
): Promise<string[]> {
  const faults: string[] = [];
  for (let last = '00000000-0000-0000-0000-000000000000'; ; ) {
    const models = await database.query<ModelRow>(
      `select id, name, repository_id from models where id > $1 order by id limit ${PAGE}`,
      [last],
    );
    for (const model of models) {
      const found = await database.transaction(async (transaction) => {
        await transaction.query('set transaction isolation level repeatable read, read only');
        return await check(transaction, model);
      });
      faults.push(...found.map((fault) => `${model.name}: ${fault}`));
      if (faults.length >= MAX_FAULTS) return faults.slice(0, MAX_FAULTS);
    }
    const end = models.at(-1);
    if (!end || models.length < PAGE) return faults;
    last = end.id;
  }
}

interface TagRow {
  readonly name: string;
  readonly digest: Digest;
  readonly at: string;
}

interface ReleaseRow {
  readonly id: string;
  readonly version: string;
  readonly quantization: string | null;
  readonly tag: string;
  readonly digest: Digest | null;
  readonly status: string;
  readonly version_order: string;
}

const RELEASES =
  'select id, version, quantization, tag, digest, status, version_order from releases where model_id = $1';

async function checkTags(queries: Queries, model: ModelRow): Promise<string[]> {
  const faults: string[] = [];
  const tags = await queries.query<TagRow>(
    `select t.name, t.digest, to_char(t.updated_at at time zone 'UTC', 'YYYYMMDDHH24MISSUS') as at
       from tags t join manifests f on f.repository = t.repository and f.digest = t.digest
      where t.repository = $1 and f.subject is null`,
    [model.repository_id],
  );
  const byName = new Map<string, TagRow[]>();
  for (const tag of tags) {
    const name = nameOf(tag.name);
    if (name !== undefined) byName.set(name, [...(byName.get(name) ?? []), tag]);
  }
  const releases = await queries.query<ReleaseRow>(RELEASES, [model.id]);
  for (const release of releases) {
    const meaning = readTag(release.tag);
    if (
      meaning.kind !== 'release' ||
      meaning.version !== release.version ||
      meaning.quantization !== release.quantization
    )
      faults.push(`release ${release.id}: its tag ${release.tag} means something else`);
    if (versionOrder(release.version) !== release.version_order)
      faults.push(`release ${release.tag}: its place in the order is not that of its version`);
    const name = nameOf(release.tag) ?? '';
    const named = byName.get(name);
    byName.delete(name);
    if (release.status === 'draft') {
      if (named) faults.push(`release ${release.tag} is a draft, but there is a tag ${named[0]?.name}`);
      continue;
    }
    if (!named) {
      if (release.status !== 'withdrawn') faults.push(`release ${release.tag} has no tag`);
      continue;
    }
    const newest = named.reduce((one, other) => (other.at > one.at ? other : one)).at;
    if (!named.some((tag) => tag.at === newest && tag.digest === release.digest))
      faults.push(
        `release ${release.tag} is ${release.digest}, its tag is ${named.map((tag) => tag.digest).join(' or ')}`,
      );
  }
  for (const named of byName.values()) faults.push(`tag ${named[0]?.name} has no release`);
  return faults;
}

function nameOf(tag: string): string | undefined {
  const meaning = readTag(tag);
  return meaning.kind === 'release' ? `${meaning.version}\n${meaning.quantization ?? ''}`.toLowerCase() : undefined;
}

async function checkLayers(queries: Queries, model: ModelRow): Promise<string[]> {
  const faults: string[] = [];
  const releases = await queries.query<ReleaseRow>(`${RELEASES} and digest is not null`, [model.id]);
  for (const release of releases) {
    if (release.digest === null) continue;
    const content = await storedContent(queries, model.repository_id, release.digest);
    // What a withdrawn release was may be gone.
    if (!content) {
      if (release.status !== 'withdrawn') faults.push(`release ${release.tag}: its manifest is gone`);
      continue;
    }
    const layers = await digestsOf(queries, release.id, 'layer');
    const wanted = content.files.map((file) => file.digest as string).sort();
    if (layers.join() !== wanted.join())
      faults.push(`release ${release.tag} has ${layers.length} layers, its manifest ${wanted.length}`);
    const attached = await digestsOf(queries, release.id, 'attached');
    const referring = (await referrerFiles(queries, model.repository_id, release.digest)).sort();
    if (attached.join() !== referring.join())
      faults.push(
        `release ${release.tag} has ${attached.length} files attached, its referrers have ${referring.length}`,
      );
  }
  return faults;
}

async function digestsOf(queries: Queries, release: string, kind: 'layer' | 'attached'): Promise<string[]> {
  const rows = await queries.query<{ digest: string }>(
    'select digest from artifacts where release_id = $1 and kind = $2 order by digest',
    [release, kind],
  );
  return rows.map((row) => row.digest).sort();
}

async function referrerFiles(queries: Queries, repository: number, digest: Digest): Promise<string[]> {
  const rows = await queries.query<{ digest: Digest }>(
    'select digest from manifests where repository = $1 and subject = $2',
    [repository, digest],
  );
  const files: string[] = [];
  for (const row of rows) {
    const manifest = await readManifest(queries, repository, row.digest);
    if (manifest) files.push(...filesOf(manifest).map((file) => file.digest as string));
  }
  return files;
}
