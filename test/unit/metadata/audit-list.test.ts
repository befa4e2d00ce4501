import { expect } from 'chai';
import {
  actionsOf,
  type AuditFilters,
  type AuditRow,
  auditStatement,
  listAudit,
  streamAudit,
} from '../../../src/metadata/audit-list.js';
import { writeAudit } from '../../../src/metadata/audit.js';
import { ACTOR } from '../../support/rooms.js';
import { AuditScene } from './audit-scene.js';

const idsOf = (rows: readonly AuditRow[]) => rows.map((row) => row.id);

describe('the list of the record', () => {
  let scene: AuditScene;

  before(async () => {
    scene = await AuditScene.make();
    // Ten rows of one time, of which only the number tells the order.
    await scene.database.transaction(async (transaction) => {
      for (let index = 1; index <= 10; index++)
        await writeAudit(transaction, index === 4 ? { ...ACTOR, key: 'other' } : ACTOR, {
          action: ['blob.push', 'release.create', 'release.delete', 'releases.lost'][index % 4] ?? '',
          resourceType: index % 2 === 0 ? 'even' : 'odd',
          resourceId: `resource ${index % 3}`,
          repository: index < 8 ? 'team/model' : undefined,
          details: { index },
        });
    });
  });
  after(async () => await scene.dispose());

  const list = async (filters: AuditFilters, limit = 100) => await listAudit(scene.database, { filters, limit });

  it('has every fact of a row, and the newest first', async () => {
    const { rows, next } = await list({});
    expect(idsOf(rows)).to.deep.equal([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    expect(next).to.equal(undefined);
    const [row] = rows;
    expect(row?.createdAt).to.be.instanceOf(Date);
    expect(row).to.deep.equal({
      id: 10,
      actor: 'tester',
      actorName: 'a tester',
      action: 'release.delete',
      resourceType: 'even',
      resourceId: 'resource 1',
      repository: null,
      details: { index: 10 },
      ipAddress: '127.0.0.1',
      userAgent: 'tests',
      requestId: 'none',
      createdAt: row?.createdAt,
    });
  });

  for (const [what, filters, wanted] of [
    ['an actor', { actor: 'other' }, [4]],
    ['an action', { action: 'release.create' }, [9, 5, 1]],
    ['actions that begin alike, up to their dot', { action: 'release.*' }, [10, 9, 6, 5, 2, 1]],
    ['actions of which there are none', { action: 'model.*' }, []],
    ['actions that begin alike in a repository', { action: 'release.*', repository: 'team/model' }, [6, 5, 2, 1]],
    ['actions that begin alike, of one kind', { action: 'release.*', resourceType: 'odd' }, [9, 5, 1]],
    ['a kind of resource', { resourceType: 'odd' }, [9, 7, 5, 3, 1]],
    ['a resource', { resourceId: 'resource 0' }, [9, 6, 3]],
    ['a resource of a kind', { resourceId: 'resource 0', resourceType: 'even' }, [6]],
    ['a repository', { repository: 'team/model' }, [7, 6, 5, 4, 3, 2, 1]],
    ['a time to come', { since: new Date('2100-01-01') }, []],
    ['a time that is past', { until: new Date('2000-01-01') }, []],
    ['all of time', { since: new Date('2000-01-01'), until: new Date('2100-01-01'), actor: 'other' }, [4]],
  ] as const) {
    it(`finds ${what}`, async () => {
      expect(idsOf((await list(filters)).rows)).to.deep.equal(wanted);
    });
  }

  it('goes on behind each page, also between rows of one time, and ends with the last', async () => {
    for (const filters of [{}, { action: 'release.*' }]) {
      const all = idsOf((await list(filters)).rows);
      const pages: number[][] = [];
      for await (const rows of streamAudit(scene.database, filters, 3)) pages.push(idsOf(rows));
      expect(pages.flat()).to.deep.equal(all);
      expect(pages).to.have.length(Math.ceil(all.length / 3));
    }
  });
});

describe('the list of a long record', () => {
  const ROWS = 1_000_000;
  let scene: AuditScene;

  before(async function () {
    this.timeout(300_000);
    // A million rows may take longer than a request.
    scene = await AuditScene.make({ timeout: 250 });
    const { database } = scene;
    // Its indexes are made afterwards, as by a restore: that is four times as fast.
    const indexes = await database.query<{ name: string; text: string }>(
      `select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as text from pg_index
        where indrelid = 'audit_logs'::regclass and not indisprimary`,
    );
    for (const { name } of indexes) await database.query(`drop index ${name}`);
    await database.query(
      `insert into audit_logs (actor, actor_name, action, resource_type, resource_id, repository, details, ip_address,
                               user_agent, request_id, created_at)
       select 'key' || n % 50, 'name', (array['blob.push', 'blob.push', 'manifest.push', 'tag.delete'])[1 + n % 4],
              (array['blob', 'blob', 'manifest', 'tag'])[1 + n % 4], md5((n / 3)::text), 'team/model-' || n % 1000, '{}',
              '192.0.2.1', 'oras/1.2', 'r' || n, now() - make_interval(secs => ${ROWS} - n)
         from generate_series(1, ${ROWS}) n`,
    );
    // Of one kind there are few, and all of them old.
    await database.query(
      `insert into audit_logs (actor, actor_name, action, resource_type, resource_id, details, ip_address, user_agent,
                               request_id, created_at)
       select 'local', 'root', 'key.create', 'key', 'k' || n, '{}', '', '', '', now() - interval '1 year'
         from generate_series(1, 200) n`,
    );
    for (const { text } of indexes) await database.query(text);
    await database.query('analyze audit_logs');
  });
  after(async () => await scene.dispose());

  const now = Date.now();
  for (const [what, filters] of [
    ['nothing in particular', {}],
    ['an actor', { actor: 'key7' }],
    ['nobody', { actor: 'nobody' }],
    ['a frequent action', { action: 'blob.push' }],
    ['a rare action', { action: 'key.create' }],
    ['frequent actions that begin alike', { action: 'blob.*' }],
    ['rare actions that begin alike', { action: 'key.*' }],
    ['a frequent kind of resource', { resourceType: 'manifest' }],
    ['a rare kind of resource', { resourceType: 'key' }],
    ['a resource', { resourceId: 'c4ca4238a0b923820dcc509a6f75849b' }],
    ['a resource of a kind', { resourceType: 'key', resourceId: 'k7' }],
    ['a repository', { repository: 'team/model-7' }],
    ['a repository and actions that begin alike', { repository: 'team/model-7', action: 'manifest.*' }],
    ['a time', { since: new Date(now - 500_000_000), until: new Date(now - 400_000_000) }],
    ['an actor and a time', { actor: 'key7', until: new Date(now - 400_000_000) }],
  ] as const) {
    it(`reads ${what} by an index, from the middle as from the beginning`, async () => {
      const cursor = { createdAt: new Date(now - (ROWS / 2) * 1000).toISOString(), id: ROWS / 2 };
      for (const from of [undefined, cursor]) {
        const { action }: AuditFilters = filters;
        const actions = action === undefined ? undefined : await actionsOf(scene.database, action);
        const { text, values } = auditStatement({ filters, cursor: from, limit: 51 }, actions);
        const [plan] = await scene.database.query<{ 'QUERY PLAN': [PlanOfAll] }>(
          `explain (analyze, buffers, format json) ${text}`,
          values,
          { prepare: false },
        );
        const [all] = plan?.['QUERY PLAN'] ?? [];
        expect(all && nodesOf(all.Plan)).not.to.include('Seq Scan');
        expect(
          (all?.Plan['Shared Hit Blocks'] ?? 0) + (all?.Plan['Shared Read Blocks'] ?? 0),
          JSON.stringify(all),
        ).to.be.lessThan(2_000);
      }
    });
  }
});

interface Plan {
  readonly 'Node Type': string;
  readonly 'Shared Hit Blocks': number;
  readonly 'Shared Read Blocks': number;
  readonly Plans?: readonly Plan[];
}

interface PlanOfAll {
  readonly Plan: Plan;
}

function nodesOf(plan: Plan): string[] {
  return [plan['Node Type'], ...(plan.Plans ?? []).flatMap(nodesOf)];
}
