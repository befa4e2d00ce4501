// Asking who comes by the cookie of a session, of every worker, and what is answered when it has ended.
import { expect } from 'chai';
import { api, type ApiAnswer } from '../support/api.js';
import type { SessionAnswer, TestSession } from '../support/keys.js';
import type { TestServer } from '../support/server.js';
import { exchange } from './wire.js';

/** Connections of which each goes to some worker; enough that every worker has several. */
const CONNECTIONS = 30;
const ENDED = { detail: 'This session has ended: sign in again' };
export const NOBODY = { kind: 'anonymous', id: 'anonymous', session: null };

/** Who the registry says that comes with these headers alone. */
export async function askWho(
  server: TestServer,
  headers: Readonly<Record<string, string>>,
): Promise<ApiAnswer<SessionAnswer>> {
  return await api<SessionAnswer>(server, 'GET', '/session', { key: null, headers });
}

/** The statuses that the workers answer to a session. */
export async function statusesOf({ host }: TestServer, { cookie }: TestSession): Promise<number[]> {
  const headers = { authorization: '', cookie };
  const asked = Array.from({ length: CONNECTIONS }, () => exchange(host, 'GET', '/v2/', { headers }));
  return [...new Set((await Promise.all(asked)).map(({ status }) => status))];
}

/** Expects a session over plain HTTP to be over in every worker, and the browser to be told so. */
export async function expectEnded(server: TestServer, session: TestSession): Promise<void> {
  const { cookie, headers } = session;
  const answer = await askWho(server, { cookie });
  expect(answer.body).to.deep.include(NOBODY);
  expect(answer.headers.get('session-ended')).to.equal('true');
  expect(answer.headers.get('set-cookie')).to.match(/^weighhouse_session=; Path=\/; Max-Age=0; /);
  const refused = await api(server, 'GET', '/models', { key: null, headers: { cookie } });
  expect([refused.status, refused.body]).to.deep.equal([401, ENDED]);
  expect(refused.headers.get('set-cookie')).to.match(/^weighhouse_session=; Path=\/; Max-Age=0; /);
  expect(refused.headers.get('www-authenticate')).to.match(/^Bearer /);
  const write = await api(server, 'POST', '/models', { key: null, headers, body: {} });
  expect([write.status, write.body]).to.deep.equal([401, ENDED]);
  expect(await statusesOf(server, session)).to.deep.equal([401]);
}
