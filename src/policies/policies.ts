import { isDeepStrictEqual } from 'node:util';
import { Lease } from '../auth/lease.js';
import { brokenConstraint, type Queries } from '../database/connect.js';
import { Conditions, type Page, type PageQuery, readPage } from '../database/pages.js';
import { RegistryError } from '../errors.js';
import { announcePolicy, type PolicyAnnounced } from './changes.js';
import { holdSums, sumQuotas } from './quota-sums.js';
import type { Retention } from './retention.js';
import { Policies, type Policy, type Untagged } from './rules.js';

/** A policy as the API shows it. */
export interface ShownPolicy {
  readonly id: string;
  readonly pattern: string;
  readonly untagged: Untagged | null;
  readonly retention: Retention | null;
  readonly protected_tags: readonly string[];
  readonly quota_bytes: number | null;
  readonly created_by: string;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** What of a policy can be changed. */
export type PolicyChanges = Partial<Pick<ShownPolicy, 'untagged' | 'retention' | 'protected_tags' | 'quota_bytes'>>;

/** A change of a policy: who makes it, and what it expects to be there. */
export interface PolicyCaller {
  readonly announced: PolicyAnnounced;
  /** Told the policy as it is, locked, before it changes; what it throws is the outcome. */
  expect(current: ShownPolicy): void;
}

const UNTAGGED = `case when p.untagged_keep then json_build_object('keep', true)
  when p.untagged_days is not null then json_build_object('days', p.untagged_days) end as untagged`;
const COLUMNS = `p.id, p.pattern, ${UNTAGGED}, p.retention, p.protected_tags, p.quota_bytes, p.created_by, p.created_at, p.updated_at`;

/** All policies, for what holds now. */
export async function readPolicies(queries: Queries): Promise<Policies> {
  const rows = await queries.query<Policy>(
    `select p.id, p.pattern, ${UNTAGGED}, p.retention, p.protected_tags as "protectedTags", p.quota_bytes as "quotaBytes",
            coalesce(u.used_bytes, 0)::bigint as "usedBytes"
       from policies p left join quota_usage u on u.policy = p.id`,
  );
  return new Policies(rows);
}

/** The policies under a lease: what is changed holds everywhere within REVOKED_MS. */
export function leasePolicies(queries: Queries): Lease<Policies> {
  return new Lease(() => readPolicies(queries));
}

/** A page of all policies, by their patterns. @throws 'PageInvalid' */
export async function listPolicies(queries: Queries, page: PageQuery): Promise<Page<ShownPolicy>> {
  return await readPage<ShownPolicy>(queries, page, {
    columns: COLUMNS,
    from: 'policies p',
    conditions: new Conditions(),
    sorts: {
      pattern: { expression: 'p.pattern', type: 'text' },
      created_at: { expression: 'p.created_at', type: 'timestamptz' },
    },
    defaultSort: 'pattern',
    id: 'p.id',
    idType: 'uuid',
  });
}

/** @throws 'NotFound' */
export async function getPolicy(queries: Queries, id: string, lock = ''): Promise<ShownPolicy> {
  const [row] = await queries.query<ShownPolicy>(`select ${COLUMNS} from policies p where p.id = $1 ${lock}`, [id]);
  if (!row) throw new RegistryError('NotFound', 'Policy not found');
  return row;
}

/**
 * Makes a policy. A quota counts what is there at once.
 * @param max how many there may be
 * @throws 'Conflict' if the pattern has one, or there are too many
 */
export async function createPolicy(
  transaction: Queries,
  pattern: string,
  { untagged = null, retention = null, protected_tags = [], quota_bytes = null }: PolicyChanges,
  max: number,
  announced: PolicyAnnounced,
): Promise<ShownPolicy> {
  // One at a time, so that their number is known, and that a quota is summed by whoever comes last.
  await holdSums(transaction);
  const [count] = await transaction.query<{ policies: number }>('select count(*)::bigint as policies from policies');
  if ((count?.policies ?? 0) >= max)
    throw conflict(`There are ${max} policies, and there may be no more (REGISTRY_POLICIES_MAX)`);
  const [made] = await transaction
    .query<{ id: string }>(
      `insert into policies (pattern, untagged_keep, untagged_days, retention, protected_tags, quota_bytes, created_by)
       values ($1, $2, $3, $4, $5, $6, $7) returning id`,
      [pattern, ...columnsOf({ untagged, retention, protected_tags, quota_bytes }), announced.actor.key],
    )
    .catch((error: unknown) => {
      if (brokenConstraint(error) !== 'policies_pattern') throw error;
      throw conflict('Another policy has this pattern');
    });
  await sumQuotas(transaction);
  const after = await getPolicy(transaction, made?.id ?? '');
  await announcePolicy({ before: null, after }, announced, transaction);
  return after;
}

/** Changes what is said. It holds everywhere within REVOKED_MS of the commit. @throws 'NotFound' */
export async function changePolicy(
  transaction: Queries,
  id: string,
  changes: PolicyChanges,
  { announced, expect }: PolicyCaller,
): Promise<{ readonly policy: ShownPolicy; readonly changed: boolean }> {
  await holdSums(transaction);
  const before = await getPolicy(transaction, id, 'for no key update');
  expect(before);
  const said = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as PolicyChanges;
  const wanted = { ...before, ...said };
  if (isDeepStrictEqual(before, wanted)) return { policy: before, changed: false };
  await transaction.query(
    `update policies set untagged_keep = $2, untagged_days = $3, retention = $4, protected_tags = $5, quota_bytes = $6,
            updated_at = now()
      where id = $1`,
    [id, ...columnsOf(wanted)],
  );
  await sumQuotas(transaction);
  const policy = await getPolicy(transaction, id);
  await announcePolicy({ before, after: policy }, announced, transaction);
  return { policy, changed: true };
}

/** Removes a policy. It holds nowhere any more within REVOKED_MS of the commit. @throws 'NotFound' */
export async function removePolicy(
  transaction: Queries,
  id: string,
  { announced, expect }: PolicyCaller,
): Promise<void> {
  await holdSums(transaction);
  const before = await getPolicy(transaction, id, 'for update');
  expect(before);
  await transaction.query('delete from policies where id = $1', [id]);
  await announcePolicy({ before, after: null }, announced, transaction);
}

function columnsOf({ untagged, retention, protected_tags, quota_bytes }: Required<PolicyChanges>): unknown[] {
  const days = untagged !== null && 'days' in untagged ? untagged.days : null;
  const keep = untagged !== null && 'keep' in untagged;
  const said = retention === null ? null : JSON.stringify(retention);
  return [keep, days, said, JSON.stringify([...new Set(protected_tags)]), quota_bytes];
}

function conflict(message: string): RegistryError {
  return new RegistryError('Conflict', message, { detail: { conflicts: [] } });
}
