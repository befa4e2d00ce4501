// A database as it is after years, filled by SQL: one model of ten thousand releases among a thousand, and what goes with them.
import type { Queries } from '../../src/database/connect.js';
import { versionOrder } from '../../src/weights/version.js';

export const MODELS = 1_000;
/** Of the largest model, which is the first; the others have ten. */
export const RELEASES = 10_000;
export const ENVIRONMENTS = ['dev', 'test', 'staging', 'canary', 'prod'];
/** Of the largest model, beside the tags that are releases. */
export const ALIASES = 120;

export const repositoryOf = (model: number) => `team-${model % 40}/model-${model}`;
/** The id of the n-th row of a table, so that tests can ask for it. */
export const idOf = (table: 'models' | 'releases' | 'deployments', n: number) =>
  `${{ models: 'a', releases: 'b', deployments: 'c' }[table]}0000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

const ID = (letter: string, number: string) =>
  `('${letter}0000000-0000-4000-8000-' || lpad((${number})::text, 12, '0'))::uuid`;
/** Any moment of three years, the same for the same number. */
const SOMETIME = (number: string) =>
  `timestamptz '2023-01-01' + make_interval(secs => abs(hashint8((${number})::bigint)::float8) / 2147483647 * 94e6)`;
const DIGEST = (number: string) => `'sha256:' || encode(sha256((${number})::text::bytea), 'hex')`;

const QUANTIZATIONS = `array['fp16', 'bf16', 'int8', 'Q4_K_M']`;

/** Runs on one connection of a superuser: what refers to what is not checked, it is right by construction. */
export async function fillCatalog(transaction: Queries, options: { readonly auditRows: number }): Promise<void> {
  const run = async (text: string, values: readonly unknown[] = []) =>
    await transaction.query(text, values, { prepare: false });
  await run('set local session_replication_role = replica');
  await run('set local statement_timeout = 0');
  await run(
    `insert into repositories (id, name) overriding system value
     select n, 'team-' || n % 40 || '/model-' || n from generate_series(1, ${MODELS}) n`,
  );
  await run(
    `insert into models (id, name, storage_path, repository_id, company, base_model, parameter_count, description, tags,
                         created_by, created_at, updated_at)
     select ${ID('a', 'n')}, 'model-' || n, 'team-' || n % 40 || '/model-' || n, n,
            case when n = 1 then 'The Largest' else 'company-' || n % 50 end, 'base-' || n % 20, (n % 100) * 1000000000::bigint,
            repeat('A model of many words. ', 20), jsonb_build_array('tag-' || n % 10, 'rare-' || n % 200),
            'catalog', ${SOMETIME('n')}, ${SOMETIME('n + 1')}
       from generate_series(1, ${MODELS}) n`,
  );
  await fillReleases(run);
  await fillArtifacts(run);
  await fillDeployments(run);
  await run(
    `insert into audit_logs (actor, actor_name, action, resource_type, resource_id, repository, details, ip_address,
                             user_agent, request_id, created_at)
     select 'key' || n % 50, 'name', (array['blob.push', 'blob.push', 'blob.push', 'manifest.push'])[1 + n % 4],
            (array['blob', 'blob', 'blob', 'manifest'])[1 + n % 4], md5((n / 3)::text),
            (select name from repositories where id = case when n % 3 = 0 then 1 else 1 + n / 4 % ${MODELS} end), '{}',
            '192.0.2.1', 'oras/1.2', 'r' || n, timestamptz '2023-01-01' + make_interval(secs => n * 94)
       from generate_series(1, ${options.auditRows}) n`,
  );
}

type Run = (text: string, values?: readonly unknown[]) => Promise<unknown>;

async function fillReleases(run: Run): Promise<void> {
  const perQuantization = RELEASES / 4;
  const versions = Array.from({ length: perQuantization }, (_, n) => `v${Math.floor(n / 50)}.${n % 50}`);
  // Every model has v0.0, and besides some of the versions of the largest; of quantizations there is a rare one as well.
  await run(
    `insert into releases (id, model_id, version, quantization, tag, digest, media_type, size_bytes, status, release_notes,
                           facts, version_order, created_by, created_at, updated_at)
     select ${ID('b', 'n')}, ${ID('a', 'model')}, version, quantization, version || '-' || quantization,
            case when status <> 'draft' then ${DIGEST('n')} end, 'application/vnd.oci.image.manifest.v1+json',
            1000000 + abs(hashint8(n)::bigint), status, 'What is new in ' || version, '{}', version_order, 'catalog',
            ${SOMETIME('n * 3')}, ${SOMETIME('n * 3 + 1')}
       from (select n, model, ($1::text[])[place] as version, ($2::text[])[place] as version_order,
                    case when n % 5000 = 0 then 'tq1_0' else (${QUANTIZATIONS})[1 + n % 4] end as quantization,
                    case when n % 400 = 7 then 'draft' when n % 1000 = 9 then 'withdrawn' when abs(hashint4(n)::bigint) % 20 = 3 then 'deprecated'
                         else 'published' end as status
               from (select n, case when n <= ${RELEASES} then 1 else 2 + (n - ${RELEASES} - 1) / 10 end as model,
                            case when n <= ${RELEASES} then 1 + (n - 1) / 4 when (n - 1) % 10 < 4 then 1
                                 else 4 + abs(hashint4((n - 1) / 10)::bigint) % ${RELEASES / 4 - 10} + (n - 1) % 10 / 4 end as place
                       from generate_series(1, ${RELEASES} + (${MODELS} - 1) * 10) n) numbered) named`,
    [versions, versions.map(versionOrder)],
  );
  await run(
    `insert into manifests (repository, digest, media_type, size, payload)
     select m.repository_id, r.digest, r.media_type, 2, '{}' from releases r join models m on m.id = r.model_id
      where r.digest is not null`,
  );
  await run(
    `insert into tags (repository, name, digest)
     select m.repository_id, r.tag, r.digest from releases r join models m on m.id = r.model_id where r.status <> 'withdrawn'
        and r.digest is not null
     union all
     select n, word, ${DIGEST(`case when n = 1 then 1 else ${RELEASES} + (n - 2) * 10 + 1 end`)}
       from generate_series(1, ${MODELS}) n, unnest(array['latest', 'prod']) word
     union all
     select 1, 'word-' || n, ${DIGEST('n * 4')} from generate_series(1, ${ALIASES - 2}) n`,
  );
  await run(
    `insert into tag_events (repository, name, digest, actor, at)
     select 1, case when n % 100 = 0 then 'latest' else 'v0.' || n % 50 || '-fp16' end, ${DIGEST('n')}, 'catalog', ${SOMETIME('n')}
       from generate_series(1, 20000) n`,
  );
}

async function fillArtifacts(run: Run): Promise<void> {
  await run(
    `insert into artifacts (release_id, name, kind, position, media_type, digest, size_bytes, path, checksum, format, created_by,
                            created_at)
     select r.id, file, 'layer', position, 'application/octet-stream', ${DIGEST(`file || r.id`)}, 100, file,
            ${DIGEST(`file || r.id`)}, format, 'catalog', r.created_at
       from releases r, (values ('model.safetensors', 1, 'safetensors'), ('config.json', 2, 'json'),
                                ('README.md', 3, 'markdown')) f (file, position, format)`,
  );
  await run(
    `insert into artifacts (release_id, name, kind, position, manifest, media_type, digest, size_bytes, path, format, created_by,
                            created_at)
     select id, 'report.json', 'attached', 1, ${DIGEST(`'m' || id`)}, 'application/json', ${DIGEST(`'a' || id`)}, 100,
            'report.json', case when tag like 'v1_.35-%' then 'onnx' else 'html' end, 'catalog', created_at
       from releases where right(id::text, 2) = '42'`,
  );
}

async function fillDeployments(run: Run): Promise<void> {
  // In each environment one that is active and some before it; of the largest model many.
  await run(
    `insert into deployments (id, release_id, model_id, digest, environment, status, endpoint, deployed_by, deployed_at,
                              created_at, updated_at)
     select ${ID('c', 'row_number() over (order by model, environment, nth)')}, ${ID('b', 'release')}, ${ID('a', 'model')},
            ${DIGEST('release')}, environment,
            case when nth = 1 then 'active' when nth = 5 and model % 100 = 3 then 'pending' when nth = 4 and model % 50 = 1 then 'failed'
                 else 'superseded' end,
            'https://' || environment || '.example.org/' || model, 'catalog', ${SOMETIME('release * 5 + nth')},
            ${SOMETIME('release * 5 + nth')}, ${SOMETIME('release * 5 + nth + 1')}
       from (select model, environment, nth,
                    case when model = 1 then nth else ${RELEASES} + (model - 2) * 10 + 1 + nth end as release
               from generate_series(1, ${MODELS}) model, unnest($1::text[]) environment,
                    generate_series(1, case when model = 1 then 1000 else 5 end) nth) numbered`,
    [ENVIRONMENTS],
  );
  await run(
    `insert into deployment_events (deployment_id, status, actor, at)
     select id, 'active', 'catalog', created_at from deployments
     union all select ${ID('c', '1')}, 'active', 'catalog', ${SOMETIME('n')} from generate_series(1, 200) n`,
  );
}
