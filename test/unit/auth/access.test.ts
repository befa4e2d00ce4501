import { expect } from 'chai';
import { Access, ANONYMOUS, type Identity, type TokenBounds } from '../../../src/auth/access.js';
import { Visibility } from '../../../src/auth/visibility.js';
import { parseRepositoryName } from '../../../src/oci/name.js';

const MINE = parseRepositoryName('mine/model');
const OTHER = parseRepositoryName('mine/other');
const FOREIGN = parseRepositoryName('foreign/model');
const NOW = 1_000_000;

const KEY: Identity = {
  kind: 'key',
  id: 'one',
  name: '',
  grants: [{ repository: 'mine/*', actions: ['pull', 'push'] }],
  readOnly: false,
};
const ADMIN: Identity = { ...KEY, id: 'admin', grants: [{ repository: '**', actions: ['admin'] }] };
const closed = { anonymous: 'none', visibility: new Visibility([]) } as const;
const open = { anonymous: 'push', visibility: new Visibility([{ pattern: 'mine/*', isPublic: false }]) } as const;
const token = (change: Partial<TokenBounds> = {}): TokenBounds => ({
  repositories: new Set([MINE]),
  catalog: false,
  expiresAt: NOW + 60,
  expired: false,
  ...change,
});
const expired = (change: Partial<TokenBounds> = {}) => token({ expiresAt: NOW - 60, expired: true, ...change });

describe('what one request may do', () => {
  it('is bounded by its token', () => {
    const access = new Access(KEY, closed, token());
    expect(access.decide('push', MINE)).to.equal('allowed');
    expect(access.decide('push', OTHER)).to.equal('challenge');
    expect(access.decide('pull', FOREIGN)).to.equal('denied');
    expect(access.decide('delete', MINE)).to.equal('denied');
    expect(access.decideCatalog()).to.equal('challenge');
    expect(access.decideBase()).to.equal('allowed');
    expect(new Access(KEY, closed, token({ catalog: true })).decideCatalog()).to.equal('allowed');
  });

  it('is nothing of its own with a token that has expired', () => {
    const access = new Access(KEY, closed, expired({ repositories: 'all', catalog: true }));
    expect(access.decide('pull', MINE)).to.equal('challenge');
    expect(access.decideBase()).to.equal('challenge');
    expect(access.decideCatalog()).to.equal('challenge');
    expect(new Access(ADMIN, closed, expired({ repositories: 'all' })).decideAdmin('read')).to.equal('challenge');
  });

  it('is not done in the name of a key by a token that has expired, also where everybody may', () => {
    for (const action of ['pull', 'push'] as const) {
      expect(new Access(KEY, open, token()).decide(action, FOREIGN)).to.equal('allowed');
      expect(new Access(KEY, open, expired()).decide(action, FOREIGN)).to.equal('challenge');
      // Nobody in particular may do it with and without a token: a long upload goes on.
      expect(new Access(ANONYMOUS, open, expired()).decide(action, FOREIGN)).to.equal('allowed');
    }
  });

  it('concerns the registry as a whole only for admins with their key, and read-only ones only to read', () => {
    const reader = { ...ADMIN, readOnly: true };
    for (const [identity, bounds, read, change] of [
      [ADMIN, undefined, 'allowed', 'allowed'],
      [reader, undefined, 'allowed', 'denied'],
      [KEY, undefined, 'denied', 'denied'],
      [ADMIN, token({ catalog: true }), 'challenge', 'challenge'],
      [ADMIN, token({ repositories: 'all' }), 'allowed', 'allowed'],
      [ANONYMOUS, undefined, 'challenge', 'challenge'],
    ] as const) {
      const access = new Access(identity, open, bounds);
      expect(access.decideAdmin('read')).to.equal(read);
      expect(access.decideAdmin('change')).to.equal(change);
    }
  });

  it('may be pulling alone for a read-only key, whatever its grants and whatever is open', () => {
    const access = new Access({ ...ADMIN, readOnly: true }, open);
    for (const name of [MINE, FOREIGN]) {
      expect(access.decide('pull', name)).to.equal('allowed');
      for (const action of ['push', 'delete', 'deploy'] as const)
        expect(access.decide(action, name)).to.equal('denied');
    }
  });

  it('leaves what is private to grants', () => {
    for (const action of ['pull', 'push'] as const) {
      expect(new Access(ANONYMOUS, open).decide(action, MINE)).to.equal('challenge');
      expect(new Access({ ...KEY, grants: [] }, open).decide(action, MINE)).to.equal('denied');
    }
    expect(new Access(ANONYMOUS, open).maySee(MINE)).to.equal(false);
    expect(new Access(ANONYMOUS, open).maySee(FOREIGN)).to.equal(true);
  });

  it('includes finishing what it began with a token that was good then, and nothing of others', () => {
    const access = new Access(KEY, closed, expired());
    const begun = NOW - 100;
    expect(access.mayFinish(MINE, 'one', begun)).to.equal(true);
    expect(access.mayFinish(MINE, 'other', begun), 'of another').to.equal(false);
    expect(access.mayFinish(OTHER, 'one', begun), 'elsewhere').to.equal(false);
    expect(access.mayFinish(MINE, 'one', NOW), 'begun later').to.equal(false);
    expect(new Access(KEY, closed).mayFinish(MINE, 'one', begun)).to.equal(true);
    expect(new Access(ANONYMOUS, closed).mayFinish(MINE, 'anonymous', begun)).to.equal(false);
  });
});
