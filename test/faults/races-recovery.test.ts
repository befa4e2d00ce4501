import { rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { RegistryError } from '../../src/errors.js';
import { bodyOf, type Rooms, Site } from '../support/rooms.js';
import {
  begin,
  bytesOf,
  outcome,
  read,
  removalRows,
  segmentRows,
  sha256,
  stall,
  stillWaits,
  type targetOf,
  uploadRow,
} from './races-scene.js';
import { ClaimingStore, EagerStore } from './races-stores.js';

// Larger than what is swallowed without asking, so that segments keep their places.
const FIRST = bytesOf(100_000, 1);
const SECOND = bytesOf(90_000, 2);
const THIRD = bytesOf(80_000, 3);
const SETTLE_SECONDS = 100;

async function errorOf(work: Promise<unknown>): Promise<RegistryError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof RegistryError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

describe('segments whose writer is gone', () => {
  let site: Site;

  beforeEach(async () => {
    site = await Site.make();
  });
  afterEach(async () => await site.dispose());

  describe('and whose bytes are not there', () => {
    let one: Rooms;
    let two: Rooms;
    let target: ReturnType<typeof targetOf>;
    let lost: string;
    let client: ReturnType<typeof stall>;
    let former: Promise<string>;

    /** FIRST is sealed; SECOND is recorded, and its writer hangs. */
    beforeEach(async () => {
      one = site.open({ store: (store) => new EagerStore(store), recordBytes: 1 });
      two = site.open({ store: (store) => new EagerStore(store), recordBytes: 1 });
      target = await begin(one);
      await one.registry.uploads.append(target, bodyOf([FIRST]));
      client = stall();
      former = outcome(one.registry.uploads.append(target, bodyOf([SECOND, client.wait, THIRD])));
      await client.reached;
      lost = join(site.root, String((await segmentRows(one, target.id))[1]?.key));
      expect(await two.registry.uploads.status(target)).to.equal(FIRST.length + SECOND.length);
    });
    afterEach(async () => {
      client.go();
      expect(await former).to.equal('UploadTaken');
    });

    const append = (rooms: Rooms, from = FIRST.length + SECOND.length) =>
      rooms.registry.uploads.append(target, bodyOf([THIRD], { from }));

    for (const [what, lose] of [
      ['gone', (path: string) => rm(path)],
      ['too short', (path: string) => truncate(path, SECOND.length - 1)],
    ] as const) {
      it(`end the session where they began when they are ${what}, and the client goes on from there`, async () => {
        await lose(lost);
        const error = await errorOf(append(two));
        expect([error.failure, error.detail]).to.deep.equal(['UploadOutOfOrder', { offset: FIRST.length }]);
        expect(await uploadRow(one, target.id)).to.include({
          offset: FIRST.length,
          told: FIRST.length,
          prefixSize: 0,
          prefixDigest: null,
        });
        expect(await segmentRows(one, target.id)).to.have.length(1);
        expect((await removalRows(one, target.id)).map(({ key }) => join(site.root, key))).to.include(lost);
        const digest = sha256(FIRST, THIRD);
        await two.registry.uploads.finish(target, digest, bodyOf([THIRD], { from: FIRST.length }));
        expect(await read(one, digest)).to.deep.equal(Buffer.concat([FIRST, THIRD]));
      });
    }

    it('end it for a final PUT without a body too, whose digest the row knew', async () => {
      await rm(lost);
      const error = await errorOf(two.registry.uploads.finish(target, sha256(FIRST, SECOND), undefined));
      expect([error.failure, error.detail]).to.deep.equal(['UploadOutOfOrder', { offset: FIRST.length }]);
      await two.registry.uploads.finish(target, sha256(FIRST), undefined);
      expect(await read(one, sha256(FIRST))).to.deep.equal(FIRST);
    });

    it('take the segments after them along, and no running digest of them is used', async () => {
      await append(two);
      await rm(lost);
      expect(await outcome(append(two, FIRST.length + SECOND.length + THIRD.length))).to.equal('UploadOutOfOrder');
      expect(await segmentRows(one, target.id)).to.have.length(1);
      const others = bytesOf(SECOND.length + THIRD.length, 9);
      // Elsewhere: this process keeps a digest of as many bytes, which are not these.
      await one.registry.uploads.append(target, bodyOf([others], { from: FIRST.length }));
      const digest = sha256(FIRST, others, THIRD);
      await two.registry.uploads.finish(target, digest, bodyOf([THIRD]));
      expect(await read(one, digest)).to.deep.equal(Buffer.concat([FIRST, others, THIRD]));
    });

    for (const [what, marker] of [
      ['no marker', undefined],
      ['the marker of another database', 'another'],
    ] as const) {
      it(`are not lost as long as the store has ${what}`, async () => {
        const path = join(site.root, 'weighhouse.marker');
        const away = join(site.folder, 'away');
        await rename(lost, away);
        await rename(path, join(site.folder, 'marker'));
        if (marker) await writeFile(path, `${marker}\n`);
        expect(await outcome(append(two))).to.equal('Unavailable');
        expect(await outcome(two.registry.uploads.finish(target, sha256(FIRST, SECOND), undefined))).to.equal(
          'Unavailable',
        );
        expect(await uploadRow(one, target.id)).to.include({ offset: FIRST.length + SECOND.length });
        await rename(away, lost);
        await rename(join(site.folder, 'marker'), path);
        await two.registry.uploads.finish(target, sha256(FIRST, SECOND), undefined);
        expect(await read(one, sha256(FIRST, SECOND))).to.deep.equal(Buffer.concat([FIRST, SECOND]));
      });
    }

    it('are not lost when the store came back between the look and its marker', async () => {
      const away = join(site.folder, 'away');
      await rename(lost, away);
      class BackLate extends EagerStore {
        override async readMarker() {
          await rename(away, lost);
          return await super.readMarker();
        }
      }
      const late = site.open({ store: (store) => new BackLate(store), recordBytes: 1 });
      expect(await outcome(append(late))).to.equal('Unavailable');
      await append(two);
      expect(await uploadRow(one, target.id)).to.include({ offset: FIRST.length + SECOND.length + THIRD.length });
    });
  });

  describe('and whose last step is claimed', () => {
    function open(): { rooms: Rooms; store: ClaimingStore } {
      let made: ClaimingStore | undefined;
      const rooms = site.open({
        store: (inner) => {
          made = new ClaimingStore(inner, SETTLE_SECONDS);
          return made;
        },
      });
      if (!made) throw new Error('no store was made');
      return { rooms, store: made };
    }
    const letTheClaimAge = () =>
      site
        .open()
        .database.query(`update segments set sealing_since = sealing_since - make_interval(secs => $1)`, [
          SETTLE_SECONDS + 1,
        ]);

    it('a claim under a lost epoch stops the seal', async () => {
      const one = open();
      const two = open();
      const target = await begin(one.rooms);
      const held = one.rooms.pauses.hold('upload:written');
      const former = outcome(one.rooms.registry.uploads.append(target, bodyOf([FIRST])));
      await held.reached;
      await two.rooms.registry.uploads.append(target, bodyOf([SECOND]));
      held.release();
      expect(await former).to.equal('UploadTaken');
      expect(one.store.completed).to.deep.equal([]);
      expect(two.store.completed).to.have.length(1);
      await two.rooms.registry.uploads.finish(target, sha256(SECOND), undefined);
      expect(await read(one.rooms, sha256(SECOND))).to.deep.equal(SECOND);
    });

    it('the claim records the final length with its digest, so a successor ends what a killed writer claimed', async () => {
      const one = open();
      const two = open();
      const target = await begin(one.rooms);
      const held = one.rooms.pauses.hold('upload:sealing');
      const former = outcome(one.rooms.registry.uploads.append(target, bodyOf([FIRST])));
      await held.reached;
      expect(await uploadRow(two.rooms, target.id)).to.include({
        offset: FIRST.length,
        told: 0,
        prefixSize: FIRST.length,
        prefixDigest: sha256(FIRST),
      });
      expect((await segmentRows(two.rooms, target.id))[0]).to.include({ length: FIRST.length, objectSize: null });
      const finish = () => two.rooms.registry.uploads.finish(target, sha256(FIRST), undefined);
      const refusal = await errorOf(finish());
      expect(refusal.failure).to.equal('Unavailable');
      expect(refusal.retryAfter).to.be.within(SETTLE_SECONDS - 20, SETTLE_SECONDS);
      await letTheClaimAge();
      await finish();
      expect(two.store.completed).to.have.length(1);
      expect((await segmentRows(two.rooms, target.id))[0]).to.include({ objectSize: FIRST.length });
      expect(await read(two.rooms, sha256(FIRST))).to.deep.equal(FIRST);
      held.release();
      expect(await former).to.equal('UploadTaken');
    });

    it('a second recoverer waits while the claim of the first is fresh, and may after', async () => {
      const [one, two, three] = [open(), open(), open()];
      const target = await begin(one.rooms);
      one.store.complete = () => Promise.reject(new RegistryError('Unavailable', 'nobody knows'));
      expect(await outcome(one.rooms.registry.uploads.append(target, bodyOf([FIRST])))).to.equal('Unavailable');
      await letTheClaimAge();

      const append = ({ rooms }: typeof one) =>
        rooms.registry.uploads.append(target, bodyOf([SECOND], { from: FIRST.length }));
      const hanging = stall();
      two.store.complete = hanging.wait;
      const second = outcome(append(two));
      await hanging.reached;
      for (let time = 0; time < 2; time++) {
        const refusal = await errorOf(append(three));
        expect(refusal.failure).to.equal('Unavailable');
        expect(refusal.retryAfter).to.be.within(SETTLE_SECONDS - 20, SETTLE_SECONDS);
      }
      expect(three.store.completed).to.deep.equal([]);
      await letTheClaimAge();
      expect(await append(three)).to.equal(FIRST.length + SECOND.length);
      expect(three.store.completed).to.have.length(2);
      hanging.go();
      expect(await second).to.equal('UploadTaken');
      await three.rooms.registry.uploads.finish(target, sha256(FIRST, SECOND), undefined);
      expect(await read(one.rooms, sha256(FIRST, SECOND))).to.deep.equal(Buffer.concat([FIRST, SECOND]));
    });

    it('a recoverer that was ousted before its claim leaves the step to its successor', async () => {
      const [one, two, three] = [open(), open(), open()];
      const target = await begin(one.rooms);
      one.store.complete = () => Promise.reject(new RegistryError('Unavailable', 'nobody knows'));
      expect(await outcome(one.rooms.registry.uploads.append(target, bodyOf([FIRST])))).to.equal('Unavailable');
      await letTheClaimAge();
      const held = two.rooms.pauses.hold('upload:taken');
      const append = ({ rooms }: typeof one) =>
        rooms.registry.uploads.append(target, bodyOf([SECOND], { from: FIRST.length }));
      const second = outcome(append(two));
      await held.reached;
      const hanging = stall();
      three.store.complete = hanging.wait;
      const third = append(three);
      await hanging.reached;
      held.release();
      expect(await second).to.equal('UploadTaken');
      expect(two.store.completed).to.deep.equal([]);
      expect(await stillWaits(third)).to.equal(true);
      hanging.go();
      expect(await third).to.equal(FIRST.length + SECOND.length);
    });
  });
});
