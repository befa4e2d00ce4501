// What PostgreSQL does for the statements of a verb.
import type { Queries } from '../../src/database/connect.js';

interface Node {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Rows Removed by Index Recheck'?: number;
  readonly 'Rows Removed by Join Filter'?: number;
  readonly 'Shared Hit Blocks': number;
  readonly 'Shared Read Blocks': number;
  readonly Plans?: readonly Node[];
}

interface Explained {
  readonly Plan: Node;
  readonly 'Planning Time': number;
  readonly 'Execution Time': number;
}

export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** What a statement cost. */
export interface Cost {
  /** Planning and execution, as PostgreSQL measures them; explaining makes it slower. */
  readonly milliseconds: number;
  /** Blocks of 8 KiB that were looked at, most of them in memory. */
  readonly blocks: number;
  /** Tables that were read from end to end, and how many rows that were; each as often as it was. */
  readonly scanned: readonly { readonly table: string; readonly rows: number }[];
  /** The most rows that went through one node, also those that it threw away. */
  readonly rows: number;
  /** As text, to be read by people. */
  readonly plan: string;
}

/** Runs statements and keeps them. */
export class Listening implements Queries {
  readonly statements: Statement[] = [];

  constructor(readonly queries: Queries) {}

  async query<Row extends object>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    this.statements.push({ text, values: [...values] });
    return await this.queries.query<Row>(text, values, { prepare: false });
  }
}

/** Runs a statement once more and tells what it costs, planned for its values, as texts that are not kept prepared are. */
export async function explain(queries: Queries, { text, values }: Statement): Promise<Cost> {
  const [row] = await queries.query<{ 'QUERY PLAN': [Explained] }>(
    `explain (analyze, buffers, timing off, format json) ${text}`,
    values,
    { prepare: false },
  );
  const explained = row?.['QUERY PLAN'][0];
  if (!explained) throw new Error('nothing was explained');
  const nodes = nodesOf(explained.Plan);
  return {
    milliseconds: explained['Planning Time'] + explained['Execution Time'],
    blocks: explained.Plan['Shared Hit Blocks'] + explained.Plan['Shared Read Blocks'],
    scanned: nodes
      .filter((node) => node['Node Type'] === 'Seq Scan')
      .map((node) => ({ table: node['Relation Name'] ?? '', rows: rowsOf(node) })),
    rows: Math.max(...nodes.map(rowsOf)),
    plan: draw(explained.Plan),
  };
}

function nodesOf(node: Node): Node[] {
  return [node, ...(node.Plans ?? []).flatMap(nodesOf)];
}

function rowsOf(node: Node): number {
  const removed =
    (node['Rows Removed by Filter'] ?? 0) +
    (node['Rows Removed by Index Recheck'] ?? 0) +
    (node['Rows Removed by Join Filter'] ?? 0);
  return Math.round((node['Actual Rows'] + removed) * node['Actual Loops']);
}

function draw(node: Node, depth = 0): string {
  const what = [node['Node Type'], node['Relation Name'], node['Index Name'], `${rowsOf(node)} rows`];
  const line = '  '.repeat(depth) + what.filter(Boolean).join(' ');
  return [line, ...(node.Plans ?? []).map((child) => draw(child, depth + 1))].join('\n');
}
