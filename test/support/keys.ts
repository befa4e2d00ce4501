// Keys and tokens for tests, made as the registry makes them.
import type { Grant } from '../../src/auth/grants.js';
import { createKey, revokeKey } from '../../src/auth/keys.js';
import { connect, type Database } from '../../src/database/connect.js';
import { endSessions } from '../../src/commands/audit-access.js';
import { api } from './api.js';
import { ACTOR } from './rooms.js';
import type { TestServer } from './server.js';

const COST = 4;

/** For a change that nobody is told of. */
export const UNHEARD = { actor: ACTOR, observers: [] };

export interface TestKey {
  readonly id: string;
  readonly text: string;
  /** For Basic. */
  readonly authorization: string;
}

/** Does something on the database of a server. */
export async function onDatabase<T>(server: TestServer, work: (database: Database) => Promise<T>): Promise<T> {
  const database = connect({ url: server.environment.REGISTRY_DATABASE_URL ?? '', pool: 1, timeout: 10 });
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

/** A key with grants written as `pattern=action,action`. */
export async function makeKey(
  server: TestServer,
  grants: readonly string[],
  options: { readOnly?: boolean; expiresAt?: Date } = {},
): Promise<TestKey> {
  const parsed = grants.map((text) => {
    const [repository = '', actions = ''] = text.split('=');
    return { repository, actions: actions.split(',') } as Grant;
  });
  const { readOnly = false, expiresAt } = options;
  const key = { name: 'of a test', grants: parsed, readOnly, expiresAt };
  const { id, text } = await onDatabase(server, (database) => createKey(database, key, COST, UNHEARD));
  return { id, text, authorization: basic(text) };
}

/** Revokes a key as `weighhouse key revoke` does, but does not wait until it holds. */
export async function revoke(server: TestServer, id: string): Promise<void> {
  await onDatabase(server, (database) => revokeKey(database, id, { actor: ACTOR, observers: [endSessions] }));
}

export function basic(password: string, user = 'anyone'): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

export interface TokenAnswer {
  readonly token: string;
  readonly access_token: string;
  readonly expires_in: number;
  readonly issued_at: string;
  readonly refresh_token?: string;
}

/** Asks for a token by GET. `authorization` undefined: without credentials. */
export async function askToken(
  server: TestServer,
  authorization: string | undefined,
  parameters: readonly (readonly [string, string])[] = [],
): Promise<Response> {
  const query = new URLSearchParams(parameters.map(([name, value]): [string, string] => [name, value]));
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
  return await fetch(`${server.url}/v2/token?${query}`, { headers });
}

/** The Bearer header of a token for repositories (names, or `catalog`). */
export async function bearer(
  server: TestServer,
  authorization: string | undefined,
  ...repositories: string[]
): Promise<string> {
  const scopes = repositories.map(
    (name) => ['scope', name === 'catalog' ? 'registry:catalog:*' : `repository:${name}:pull`] as const,
  );
  const answer = await askToken(server, authorization, scopes);
  if (answer.status !== 200) throw new Error(`no token: ${answer.status} ${await answer.text()}`);
  return `Bearer ${((await answer.json()) as TokenAnswer).token}`;
}

/** A browser that is signed in. */
export interface TestSession {
  /** `name=value` */
  readonly cookie: string;
  readonly csrf: string;
  /** What a page sends that changes something. */
  readonly headers: { readonly cookie: string; readonly 'x-csrf-token': string };
}

/** What is told of a session. */
export interface SessionAnswer {
  readonly kind: string;
  readonly id: string;
  readonly is_admin: boolean;
  readonly session: { readonly csrf_token: string; readonly expires_at: string; readonly created_at: string } | null;
}

/** Signs in with the text of a key. */
export async function signIn(
  server: TestServer,
  key: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<TestSession> {
  const answer = await api<SessionAnswer>(server, 'POST', '/session', { key: null, body: { key }, headers });
  const cookie = answer.headers.get('set-cookie')?.split(';')[0] ?? '';
  const csrf = answer.body.session?.csrf_token;
  if (csrf === undefined) throw new Error(`not signed in: ${answer.status} ${answer.bytes}`);
  return { cookie, csrf, headers: { cookie, 'x-csrf-token': csrf } };
}
