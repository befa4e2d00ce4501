import type { Queries } from './connect.js';

const OLDEST = 150_000;

/**
 * What about this PostgreSQL could lose a commit that was acknowledged, as sentences for a warning; empty: nothing.
 * @throws Error if it is too old.
 */
export async function checkDurability(queries: Queries): Promise<string[]> {
  const [row] = await queries.query<
    Record<'version' | 'fsync' | 'pages' | 'commit' | 'standbys', string> & { replicas: number }
  >(
    `select current_setting('server_version_num') as version, current_setting('fsync') as fsync,
            current_setting('full_page_writes') as pages, current_setting('synchronous_commit') as commit,
            current_setting('synchronous_standby_names') as standbys, (select count(*) from pg_stat_replication) as replicas`,
  );
  if (!row) throw new Error('PostgreSQL does not tell its settings');
  if (Number(row.version) < OLDEST)
    throw new Error(`PostgreSQL 15 or newer is needed, this is ${Math.floor(Number(row.version) / 10_000)}`);
  const warnings: string[] = [];
  if (row.fsync === 'off') warnings.push('fsync is off: a crash of the machine can lose or destroy the database');
  if (row.pages === 'off') warnings.push('full_page_writes is off: a crash of the machine can destroy the database');
  if (row.commit === 'off') warnings.push('synchronous_commit is off: a crash can lose what was acknowledged');
  if (row.replicas > 0 && row.standbys === '') {
    warnings.push('no standby is synchronous (synchronous_standby_names): a failover can lose what was acknowledged');
  }
  return warnings;
}
