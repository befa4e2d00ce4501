import pg from 'pg';
import { NAME, PORT } from './embedded-cluster.js';

/** Makes our database, unless it is there. */
export async function makeDatabase(socketFolder: string): Promise<void> {
  try {
    await query(socketFolder, 'postgres', `create database ${NAME} owner ${NAME}`);
  } catch (error) {
    // Made by another meanwhile.
    if ((error as { code?: unknown }).code !== '42P04') throw error;
  }
}

/** Whether waiting may help: nobody listens yet, it starts or stops, cut us off, has no connection left. */
export function isTransient(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  // pg's own time-outs and broken connections have no code.
  return (
    code === undefined ||
    ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'EAGAIN', '57P01', '57P03', '53300'].includes(String(code))
  );
}

/** Whether anything serves this folder's socket. */
export async function answers(socketFolder: string): Promise<boolean> {
  try {
    await query(socketFolder, NAME, 'select 1');
    return true;
  } catch (error) {
    const { code } = error as { code?: unknown };
    return code !== 'ENOENT' && code !== 'ECONNREFUSED';
  }
}

/** One query over a connection of its own, with a time limit of 5 s each. */
export async function query(socketFolder: string, database: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({
    host: socketFolder,
    port: PORT,
    user: NAME,
    database,
    ssl: false,
    connectionTimeoutMillis: 5_000,
    query_timeout: 5_000,
  });
  // A connection that breaks while idle must not end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    return (await client.query(text)).rows as unknown[];
  } finally {
    await client.end().catch(() => undefined);
  }
}
