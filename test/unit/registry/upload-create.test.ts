import { expect } from 'chai';
import { isFailure } from '../../../src/errors.js';
import { ACTOR, repository, Site } from '../../support/rooms.js';

describe('opening uploads', () => {
  it('makes one repository of a name that many open at the same time', async () => {
    const site = await Site.make();
    try {
      const first = site.open();
      const second = site.open();
      const ids = await Promise.all(
        Array.from({ length: 40 }, (_, index) =>
          (index % 2 === 0 ? first : second).registry.uploads.create(
            repository(`new/model-${index % 4}`),
            'sha256',
            ACTOR,
          ),
        ),
      );
      expect(new Set(ids).size).to.equal(40);
      const { database } = first;
      expect(await database.query('select from repositories')).to.have.length(4);
      expect(await database.query('select from uploads')).to.have.length(40);
      expect(await database.query('select from bodies')).to.have.length(40);
    } finally {
      await site.dispose();
    }
  });

  it('is refused to a key that has its number open, on every process, and makes no repository then', async () => {
    const site = await Site.make();
    try {
      const first = site.open({ sessionsPerKey: 3 });
      const second = site.open({ sessionsPerKey: 3 });
      const name = repository('full/model');
      const ids: string[] = [];
      for (const { registry } of [first, second, first]) ids.push(await registry.uploads.create(name, 'sha256', ACTOR));
      const refusal = await second.registry.uploads
        .create(repository('full/never'), 'sha256', ACTOR)
        .catch((e: unknown) => e);
      expect(isFailure(refusal, 'TooManyRequests'), String(refusal)).to.equal(true);
      expect(String(refusal)).to.include('REGISTRY_SESSIONS_PER_KEY');
      expect(await first.database.query('select from repositories')).to.have.length(1);
      expect(await first.database.query('select from bodies')).to.have.length(3);
      await first.registry.uploads.create(name, 'sha256', { ...ACTOR, key: 'another' });
      await first.registry.uploads.cancel({ id: ids[0] ?? '', repository: name, actor: ACTOR });
      await second.registry.uploads.create(name, 'sha256', ACTOR);
    } finally {
      await site.dispose();
    }
  });
});
