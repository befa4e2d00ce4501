import { randomUUID } from 'node:crypto';
import { expect } from 'chai';
import { type Piece, search, Wanted } from '../../../../src/gc/rebuild/search.js';
import { digestOf } from '../../../../src/oci/digest.js';
import { newSegmentKey } from '../../../../src/storage/segment-store.js';
import { type Rooms, Site } from '../../../support/rooms.js';
import { agreed, never, sourceOf, Witness } from '../../storage/segment-store-contract.js';

describe('the search for a blob among objects', () => {
  let site: Site;
  let rooms: Rooms;

  before(async () => {
    site = await Site.make();
    rooms = site.open();
  });
  after(async () => await site.dispose());

  async function store(texts: readonly string[]): Promise<Piece[]> {
    const upload = randomUUID();
    const pieces: Piece[] = [];
    for (const [index, text] of texts.entries()) {
      const key = newSegmentKey(upload, index + 1);
      const open = await rooms.store.begin(key);
      await open.write(sourceOf([Buffer.from(text)]), never, new Witness());
      await open.seal(agreed);
      await open.close();
      pieces.push({ key, size: text.length });
    }
    return pieces;
  }

  async function find(texts: readonly string[], text: string, options: { size?: number; algorithm?: 'sha512' } = {}) {
    const pieces = await store(texts);
    const wanted = new Wanted();
    const digest = digestOf(options.algorithm ?? 'sha256', Buffer.from(text));
    wanted.add(digest, options.size ?? null);
    const { found } = await search(rooms.store, pieces, wanted, 64, () => undefined);
    if (!found) return undefined;
    expect(found).to.include({ digest, size: text.length });
    return found.segments.map(({ key, length }) => `${pieces.findIndex((piece) => piece.key === key)}:${length}`);
  }

  it('finds it in one, in several in their order, and by sha512', async () => {
    expect(await find(['weights'], 'weights')).to.deep.equal(['0:7']);
    expect(await find(['wei', 'gh', 'ts'], 'weights')).to.deep.equal(['0:3', '1:2', '2:2']);
    expect(await find(['wei', 'ghts'], 'weights', { algorithm: 'sha512' })).to.deep.equal(['0:3', '1:4']);
  });

  it('leaves out what was begun anew, or swallowed', async () => {
    expect(await find(['lost', 'wei', 'wrong', 'ghts'], 'weights')).to.deep.equal(['1:3', '3:4']);
    expect(await find(['we', 'weigh', 'ts'], 'weights')).to.deep.equal(['1:5', '2:2']);
    expect(await find(['other', 'things'], 'weights')).to.equal(undefined);
  });

  it('finds one that ends before its object does, if its size is known', async () => {
    expect(await find(['wei', 'ghts and more'], 'weights', { size: 7 })).to.deep.equal(['0:3', '1:4']);
    expect(await find(['wei', 'ghts and more'], 'weights')).to.equal(undefined);
  });

  it('tells what all are together, and stops after so many readings', async () => {
    const texts = Array.from({ length: 12 }, (_, index) => String(index));
    const pieces = await store(texts);
    let read = 0;
    const wanted = new Wanted();
    wanted.add(digestOf('sha256', Buffer.from('weights')), null);
    const { found, whole, exhausted } = await search(rooms.store, pieces, wanted, 64, () => {
      read += 1;
    });
    expect(found).to.equal(undefined);
    expect(whole.digest).to.equal(digestOf('sha256', Buffer.from(texts.join(''))));
    expect(exhausted).to.equal(false);
    expect(read).to.equal(64);
  });
});
