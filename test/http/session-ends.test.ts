import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { setTimeout as pass } from 'node:timers/promises';
import { expect } from 'chai';
import { putAdminKey } from '../../src/auth/keys.js';
import { REVOKED_MS } from '../../src/auth/lease.js';
import { revokeAllTokens } from '../../src/auth/signing-keys.js';
import { api } from '../support/api.js';
import { makeKey, onDatabase, revoke, signIn, type TestSession, UNHEARD } from '../support/keys.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';
import { bytesOf, pushBlob } from './content.js';
import { expectEnded, statusesOf } from './session-scene.js';

const REPOSITORY = 'session/model';
const MiB = 1024 * 1024;

describe('the session of a browser', function () {
  this.timeout(60_000);
  let server: TestServer;
  let digest: string;

  before(async () => {
    server = await startServer({ tls: false, environment: { REGISTRY_WORKERS: '3' } });
    digest = await pushBlob(server, REPOSITORY, bytesOf('for sessions', 64 * MiB));
  });
  after(() => server.dispose());

  const inRow = async (set: string, { cookie }: TestSession) => {
    const id = createHash('sha256')
      .update(cookie.split('=')[1] ?? '')
      .digest('base64url');
    const rows = await onDatabase(server, (database) =>
      database.query(`update sessions set ${set} where id = $1 returning id`, [id]),
    );
    expect(rows).to.have.length(1);
    await pass(REVOKED_MS);
  };

  it('is signed out in every process when that is answered, with what it had under way, and both are on record', async () => {
    const { id, text } = await makeKey(server, ['**=pull']);
    const [session, other] = [await signIn(server, text), await signIn(server, text)];
    const [hostname, port] = server.host.split(':');
    const download = async ({ cookie }: TestSession) => {
      const path = `/v2/${REPOSITORY}/blobs/${digest}`;
      const outgoing = request({ hostname, port, path, headers: { cookie }, agent: false }).end();
      const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
      incoming.on('error', () => undefined);
      return incoming;
    };
    const [mine, others] = [await download(session), await download(other)];
    const closed = new Promise((resolve) => mine.once('close', resolve));
    expect(await statusesOf(server, session)).to.deep.equal([200]);
    const out = await api(server, 'DELETE', '/session', { key: null, headers: session.headers });
    expect(out.status).to.equal(204);
    expect(out.headers.get('set-cookie')).to.match(
      /^weighhouse_session=; Path=\/; Max-Age=0; HttpOnly; SameSite=Strict$/,
    );
    mine.resume();
    await closed;
    expect(mine.complete).to.equal(false);
    await expectEnded(server, session);
    expect(await statusesOf(server, other)).to.deep.equal([200]);
    others.resume();
    await once(others, 'end');
    // Once more changes nothing, and takes the cookie away.
    const again = await api(server, 'DELETE', '/session', { key: null, headers: session.headers });
    expect([again.status, again.headers.get('session-ended')]).to.deep.equal([204, 'true']);
    expect((await api(server, 'DELETE', '/session', { key: null })).status).to.equal(204);
    const rows = await onDatabase(server, (database) =>
      database.query<{ action: string }>(
        `select action from audit_logs where actor = $1 and resource_type = 'session' order by id`,
        [id],
      ),
    );
    expect(rows.map(({ action }) => action)).to.deep.equal(['session.begin', 'session.begin', 'session.end']);
  });

  it('ends its former session by signing in again', async () => {
    const first = await signIn(server, ADMIN_KEY);
    const second = await signIn(server, ADMIN_KEY, { cookie: first.cookie });
    await pass(REVOKED_MS);
    await expectEnded(server, first);
    expect(await statusesOf(server, second)).to.deep.equal([200]);
  });

  it('is no more when its key is revoked, also where nobody is told, or gets another secret', async () => {
    const [told, untold] = [await makeKey(server, ['**=pull']), await makeKey(server, ['**=pull'])];
    await onDatabase(server, (database) => putAdminKey(database, 'wh_turns_first', 'x', 4, UNHEARD));
    const sessions = [];
    for (const text of [told.text, untold.text, 'wh_turns_first']) sessions.push(await signIn(server, text));
    for (const session of sessions) expect(await statusesOf(server, session)).to.deep.equal([200]);
    await revoke(server, told.id);
    await onDatabase(server, async (database) => {
      await database.query('update api_keys set is_active = false where key_prefix = $1', [untold.id]);
      await putAdminKey(database, 'wh_turns_second', 'x', 4, UNHEARD);
    });
    await pass(REVOKED_MS);
    for (const session of sessions) await expectEnded(server, session);
    // A key that is good again finds nobody signed in.
    await onDatabase(server, (database) =>
      database.query('update api_keys set is_active = true where key_prefix = $1', [told.id]),
    );
    await pass(REVOKED_MS);
    await expectEnded(server, sessions[0] as TestSession);
  });

  it('is no more when its time is over, when it was idle, and when all tokens are revoked', async () => {
    for (const set of ["expires_at = now() - interval '1 second'", "seen_at = now() - interval '1 hour 1 second'"]) {
      const session = await signIn(server, ADMIN_KEY);
      expect(await statusesOf(server, session)).to.deep.equal([200]);
      await inRow(set, session);
      await expectEnded(server, session);
    }
    const session = await signIn(server, ADMIN_KEY);
    await onDatabase(server, (database) => revokeAllTokens(database, UNHEARD));
    await pass(REVOKED_MS);
    await expectEnded(server, session);
  });
});
