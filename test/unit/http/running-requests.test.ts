import { Socket } from 'node:net';
import { expect } from 'chai';
import type { Identity } from '../../../src/auth/access.js';
import { RunningRequests } from '../../../src/http/running-requests.js';
import { silent } from '../../support/postgres.js';

const KEY = { kind: 'key', id: 'k', name: 'a key', grants: [], readOnly: false } as const;

describe('running requests', () => {
  it('that began with the former secret of a key are broken off, and those with the present one go on', async () => {
    const requests = new RunningRequests(({ secret }: Identity) => Promise.resolve(secret === 'new'), silent);
    const [former, present, over] = [new Socket(), new Socket(), new Socket()];
    requests.add({ ...KEY, secret: 'old' }, former);
    requests.add({ ...KEY, secret: 'new' }, present);
    requests.add({ ...KEY, secret: 'old' }, over)();
    await requests.sweep();
    expect([former, present, over].map((socket) => socket.destroyed)).to.deep.equal([true, false, false]);
  });

  it('of a session that was signed out are broken off, and others of its key go on', async () => {
    const requests = new RunningRequests(({ session }: Identity) => Promise.resolve(session !== 'out'), silent);
    const [out, other, without] = [new Socket(), new Socket(), new Socket()];
    requests.add({ ...KEY, session: 'out' }, out);
    requests.add({ ...KEY, session: 'other' }, other);
    requests.add(KEY, without);
    expect(requests.identities().map(({ session }) => session)).to.deep.equal(['out', 'other', undefined]);
    await requests.sweep();
    expect([out, other, without].map((socket) => socket.destroyed)).to.deep.equal([true, false, false]);
  });
});
