import { expect } from 'chai';
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
});
