// Rows of a registry that has been used for long, written by SQL: manifests, each a tag and a release, and ten blobs to
// each, half of them in one repository, the others in 500. No bytes are behind them.

export const BLOBS_PER_MANIFEST = 10;
/** Beside the largest, from the first step on, so that pages of them are as long at each. */
export const REPOSITORIES = 500;
export const LARGEST = 'grown/largest';

/** The repository of the n-th manifest, which is the largest for every other one. */
export const repositoryOf = (n) => (n % 2 === 0 ? LARGEST : `grown/model-${Math.floor(n / 2) % REPOSITORIES}`);
export const tagOf = (n) => `v1.${n}-fp16`;
/** The bytes of the n-th manifest, as the SQL below makes them. */
export const manifestOf = (n) =>
  `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","n":${n}}`;

const REPOSITORY = `case when n % 2 = 0 then '${LARGEST}' else 'grown/model-' || n / 2 % ${REPOSITORIES} end`;
const DIGEST = (text) => `'sha256:' || encode(sha256(convert_to(${text}, 'UTF8')), 'hex')`;
const PAYLOAD = `'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","n":' || n || '}'`;
const BLOBS = `generate_series($1::bigint * ${BLOBS_PER_MANIFEST}, $2::bigint * ${BLOBS_PER_MANIFEST} - 1) b`;

/** What refers to what is not checked meanwhile, it is right by construction. */
const STATEMENTS = [
  'set local session_replication_role = replica',
  'set local statement_timeout = 0',
  `insert into repositories (name) select distinct ${REPOSITORY} from generate_series($1::bigint, $2::bigint - 1) n
   on conflict do nothing`,
  `insert into models (name, storage_path, repository_id, description, created_by)
   select r.name, r.name, r.id, 'Grows ' || r.id, 'bench' from repositories r
    where r.name like 'grown/%' and not exists (select from models m where m.repository_id = r.id)`,
  `insert into bodies (id) overriding system value select 1000000000 + b from ${BLOBS}`,
  `insert into segments (body, position, key, length, object_size)
   select 1000000000 + b, 0,
          'aa/00000000-0000-4000-8000-' || lpad(b::text, 12, '0') || '.0.' || lpad(b::text, 16, '0'), 1000, 1000
     from ${BLOBS}`,
  `insert into blobs (digest, size, body) select ${DIGEST(`'blob ' || b`)}, 1000, 1000000000 + b from ${BLOBS}`,
  `insert into repository_blobs (repository, digest)
   select r.id, ${DIGEST(`'blob ' || b`)}
     from ${BLOBS}, lateral (select b / ${BLOBS_PER_MANIFEST} as n) m, repositories r
    where r.name = ${REPOSITORY}`,
  `insert into manifests (repository, digest, media_type, size, payload)
   select r.id, ${DIGEST(PAYLOAD)}, 'application/vnd.oci.image.manifest.v1+json', length(${PAYLOAD}),
          convert_to(${PAYLOAD}, 'UTF8')
     from generate_series($1::bigint, $2::bigint - 1) n, repositories r where r.name = ${REPOSITORY}`,
  `insert into manifest_references (repository, manifest, digest, kind, media_type, size, blob)
   select r.id, ${DIGEST(PAYLOAD)}, ${DIGEST(`'blob ' || b`)}, 'layer', 'application/octet-stream', 1000,
          ${DIGEST(`'blob ' || b`)}
     from ${BLOBS}, lateral (select b / ${BLOBS_PER_MANIFEST} as n) m, repositories r where r.name = ${REPOSITORY}`,
  `insert into tags (repository, name, digest)
   select r.id, 'v1.' || n || '-fp16', ${DIGEST(PAYLOAD)}
     from generate_series($1::bigint, $2::bigint - 1) n, repositories r where r.name = ${REPOSITORY}`,
];

const RELEASES = `insert into releases (model_id, version, quantization, tag, digest, media_type, size_bytes, status,
                                        version_order, facts, created_by)
   select m.id, 'v1.' || n, 'fp16', 'v1.' || n || '-fp16', ${DIGEST(PAYLOAD)},
          'application/vnd.oci.image.manifest.v1+json', 10000, 'published', version_order, '{}', 'bench'
     from unnest($1::bigint[], $2::text[]) named (n, version_order), models m where m.name = ${REPOSITORY}`;

/**
 * Adds the manifests [from, to), and what goes with them.
 * @param database of a superuser
 * @param versionOrder of the registry: a version's place among others
 */
export async function grow(database, from, to, versionOrder) {
  await database.transaction(async (transaction) => {
    const run = (text, values) => transaction.query(text, values, { prepare: false });
    for (const statement of STATEMENTS) await run(statement, statement.includes('$1') ? [from, to] : []);
    const numbers = Array.from({ length: to - from }, (_, index) => from + index);
    await run(RELEASES, [numbers, numbers.map((n) => versionOrder(`v1.${n}`))]);
  });
  await database.query('vacuum analyze', [], { prepare: false });
}
