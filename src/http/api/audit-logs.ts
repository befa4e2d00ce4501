import { type AuditFilters, type AuditRow, readAuditPage, streamAudit } from '../../metadata/audit-list.js';
import type { Metadata } from '../../metadata/metadata.js';
import { permit } from '../authenticate.js';
import type { Context } from '../context.js';
import { sendBody } from '../send.js';
import { sendPage } from './answer.js';
import type { CheckedRequest } from './contract.js';
import { filtersOf, pageOf } from './requests.js';

/** The filters as the contract has them. */
interface AuditLogFilters {
  readonly actor?: string;
  readonly action?: string;
  readonly resource_type?: string;
  readonly resource_id?: string;
  readonly repository?: string;
  readonly since?: string;
  readonly until?: string;
}

/** The handler of the record, for admins alone. `idleMs` is how long a client may take nothing of a stream. */
export function auditLogHandlers(metadata: Metadata, { idleMs }: { readonly idleMs: number }) {
  async function list(ctx: Context, request: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('read'));
    const filters = auditFiltersOf(request);
    const page = pageOf(request);
    if (request.query.format === 'ndjson') {
      await metadata.read(async (queries) => await stream(ctx, streamAudit(queries, filters, undefined, page.cursor)));
      return;
    }
    const { items, ...others } = await metadata.read((queries) => readAuditPage(queries, filters, page));
    sendPage(ctx, { items: items.map(shown), ...others });
  }

  /** The first rows are read before the answer begins: what fails then can still be told. */
  async function stream(ctx: Context, pages: AsyncGenerator<readonly AuditRow[], void>): Promise<void> {
    const first = await pages.next();
    ctx.status = 200;
    ctx.set('Content-Type', 'application/x-ndjson');
    ctx.set('Cache-Control', 'private, no-cache');
    if (ctx.method === 'HEAD') return;
    ctx.respond = false;
    ctx.res.statusCode = 200;
    await sendBody(ctx.req, ctx.res, lines(), idleMs);

    async function* lines(): AsyncGenerator<Uint8Array> {
      if (!first.done) yield linesOf(first.value);
      for await (const rows of pages) yield linesOf(rows);
    }
  }

  return { list };
}

function auditFiltersOf(request: CheckedRequest): AuditFilters {
  const said = filtersOf<AuditLogFilters>(request);
  return {
    actor: said.actor,
    action: said.action,
    resourceType: said.resource_type,
    resourceId: said.resource_id,
    repository: said.repository,
    since: said.since === undefined ? undefined : new Date(said.since),
    until: said.until === undefined ? undefined : new Date(said.until),
  };
}

function linesOf(rows: readonly AuditRow[]): Uint8Array {
  return Buffer.from(rows.map((row) => `${JSON.stringify(shown(row))}\n`).join(''));
}

function shown(row: AuditRow) {
  return {
    id: row.id,
    actor: row.actor,
    actor_name: row.actorName,
    action: row.action,
    resource_type: row.resourceType,
    resource_id: row.resourceId,
    repository: row.repository,
    details: row.details,
    ip_address: row.ipAddress,
    user_agent: row.userAgent,
    request_id: row.requestId,
    created_at: row.createdAt,
  };
}
