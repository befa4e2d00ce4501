import { expect } from 'chai';
import { arrivalBuffer } from '../../../src/arrival-buffers.js';
import { RegistryError } from '../../../src/errors.js';
import { DurableFile } from '../../../src/storage/durable-file.js';
import { MemoryBudget } from '../../../src/storage/memory-budget.js';
import { type Call, ScriptedFile } from './scripted-file.js';
import { failureOf, never, pattern, piecesOf, sourceOf, Witness } from './segment-store-contract.js';

const KiB = 1024;
const MiB = 1024 * KiB;

const failed = (code: string) => Object.assign(new Error(code), { code });
const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

describe('a durable file', () => {
  let file: ScriptedFile;
  let budget: MemoryBudget;
  let witness: Witness;

  beforeEach(() => {
    file = new ScriptedFile();
    budget = new MemoryBudget(4 * MiB);
    witness = new Witness();
  });

  const create = (syncFolder = () => Promise.resolve()) =>
    DurableFile.create('/nowhere', budget, syncFolder, () => Promise.resolve(file));

  it('writes ahead while one sync at a time runs behind', async () => {
    const bytes = pattern(50 * MiB);
    const durable = await create();
    await durable.write(sourceOf(piecesOf(bytes, 100_000)), never, witness);
    await durable.seal();
    expect(file.bytes.subarray(0, bytes.length).equals(bytes)).to.equal(true);
    expect(file.mostSyncs).to.equal(1);
    expect(file.what().filter((what) => what === 'sync').length).to.be.within(3, 6);
    expect(budget.free).to.equal(budget.total);
    await durable.close();
  });

  it('lets the memory of a chunk be used again when it is written, not before', async () => {
    const durable = await create();
    file.manual = true;
    const chunk = arrivalBuffer();
    await durable.write(sourceOf([chunk]), never, witness);
    expect(arrivalBuffer().buffer).to.not.equal(chunk.buffer);
    await turn();
    for (const call of file.open) call.end();
    await turn();
    expect(arrivalBuffer().buffer).to.equal(chunk.buffer);
    file.manual = false;
    for (const call of file.open) call.end();
    await durable.seal();
    await durable.close();
  });

  it('reports nothing durable and seals nothing before the folder is synced', async () => {
    let named = () => {};
    const durable = await create(
      () =>
        new Promise((resolve) => {
          named = resolve;
        }),
    );
    await durable.write(sourceOf(piecesOf(pattern(20 * MiB), MiB)), never, witness);
    let sealed = false;
    const seal = durable.seal().then(() => {
      sealed = true;
    });
    await turn();
    expect(file.what()).to.not.include('sync');
    expect([witness.reports.length, sealed]).to.deep.equal([0, false]);
    named();
    await seal;
    await durable.close();
  });

  it('seals even an empty file only when the folder is synced', async () => {
    let named = () => {};
    const durable = await create(
      () =>
        new Promise((resolve) => {
          named = resolve;
        }),
    );
    await durable.write(sourceOf([]), never, witness);
    let sealed = false;
    const seal = durable.seal().then(() => {
      sealed = true;
    });
    await turn();
    expect(sealed).to.equal(false);
    named();
    await seal;
    await durable.close();
  });

  it('takes no word of a sync that ends after a write has failed', async () => {
    file.manual = true;
    const durable = await create();
    const writing = failureOf(durable.write(sourceOf(piecesOf(pattern(40 * MiB), MiB)), never, witness));
    const sync = () => [...file.open].find((call) => call.what === 'sync');
    while (!sync() || file.open.size < 2) {
      if (!sync()) for (const call of [...file.open]) call.end();
      await turn();
    }
    for (const call of [...file.open]) if (call.what === 'write') call.end(failed('EIO'));
    expect(await writing).to.equal('Unavailable');
    sync()?.end();
    await turn();
    expect(witness.reports).to.deep.equal([]);
    await durable.close();
  });

  it('is not sealed when the folder can’t be synced', async () => {
    const durable = await create(() => Promise.reject(failed('EIO')));
    await durable.write(sourceOf([]), never, witness);
    expect(await failureOf(durable.seal())).to.equal('Unavailable');
    await durable.close();
  });

  it('writes on where the kernel took less than it was given', async () => {
    const bytes = pattern(3 * MiB);
    file.helping = 70_001;
    const durable = await create();
    await durable.write(sourceOf(piecesOf(bytes, 200_000)), never, witness);
    await durable.seal();
    expect(file.bytes.subarray(0, bytes.length).equals(bytes)).to.equal(true);
    await durable.close();
  });

  it('never reports past a write that is not done, though later ones are', async () => {
    file.manual = true;
    const durable = await create();
    const writing = durable.write(sourceOf(piecesOf(pattern(MiB), 256 * KiB)), never, witness);
    await turn();
    const [first, ...later] = file.calls;
    for (const call of later) call.end();
    await writing;
    const seal = failureOf(durable.seal());
    await turn();
    expect(file.what()).to.not.include('sync');
    first?.end(failed('EIO'));
    expect(await seal).to.equal('Unavailable');
    await durable.close();
    expect(budget.free).to.equal(budget.total);
  });

  for (const [what, code, failure] of [
    ['write', 'ENOSPC', 'StorageFull'],
    ['write', 'EIO', 'Unavailable'],
    ['sync', 'EIO', 'Unavailable'],
    ['sync', 'ESTALE', 'Unavailable'],
  ] as const) {
    it(`after the first ${what} that failed with ${code} it is never written or synced again`, async () => {
      const durable = await create();
      await durable.write(sourceOf(piecesOf(pattern(17 * MiB), MiB)), never, witness);
      while (file.open.size > 0) await turn();
      const vouched = witness.reports.length;
      file.manual = true;
      const writing = failureOf(durable.write(sourceOf(piecesOf(pattern(17 * MiB), MiB)), never, witness));
      while (![...file.open].some((call) => call.what === what)) {
        for (const call of [...file.open]) call.end();
        await turn();
      }
      for (const call of [...file.open].reverse()) call.end(call.what === what ? failed(code) : undefined);
      await turn();
      const calls = file.calls.length;
      const outcomes = [await writing, await failureOf(durable.seal()), await failureOf(durable.seal())];
      expect(outcomes.slice(1)).to.deep.equal([failure, failure]);
      await durable.close();
      expect(file.what().slice(calls)).to.deep.equal(['close']);
      expect(witness.reports).to.have.length(vouched);
      expect(budget.free).to.equal(budget.total);
    });
  }

  it('reports what a sync vouched for though it is being sealed, and a later sync fails', async () => {
    const durable = await create();
    file.manual = true;
    const writing = durable.write(sourceOf(piecesOf(pattern(17 * MiB), MiB)), never, witness);
    let done = false;
    void writing.then(() => {
      done = true;
    });
    const [ends, syncs] = [(call: Call) => call.what === 'write', (call: Call) => call.what === 'sync'];
    const sync = () => [...file.open].find(syncs);
    while (!done || !sync()) {
      for (const call of [...file.open].filter(ends)) call.end();
      await turn();
    }
    const seal = failureOf(durable.seal());
    sync()?.end();
    while (!sync()) {
      for (const call of [...file.open].filter(ends)) call.end();
      await turn();
    }
    sync()?.end(failed('EIO'));
    expect(await seal).to.equal('Unavailable');
    expect(witness.reports.map(({ size }) => size)).to.deep.equal([16 * MiB]);
    await durable.close();
  });

  it('closes when its operations have ended, whether it was sealed, written or neither', async () => {
    await (await create()).close();
    file.manual = true;
    const durable = await create();
    const writing = failureOf(durable.write(sourceOf(piecesOf(pattern(20 * MiB), MiB)), never, witness));
    await turn();
    const sealing = failureOf(durable.seal());
    let closed = false;
    const closing = durable.close().then(() => {
      closed = true;
    });
    await turn();
    expect(closed).to.equal(false);
    while (file.open.size > 0) {
      for (const call of [...file.open]) call.end();
      await turn();
    }
    await closing;
    expect(file.closedBusy).to.equal(false);
    expect([await writing, await sealing]).to.deep.equal(['Unavailable', 'Unavailable']);
    expect(await failureOf(durable.write(sourceOf([pattern(1)]), never, witness))).to.equal('Unavailable');
    expect(budget.free).to.equal(budget.total);
  });

  it('lets go of an aborted write that waits for the disk or for memory', async () => {
    file.manual = true;
    for (const waitsFor of ['disk', 'memory']) {
      budget = new MemoryBudget(waitsFor === 'disk' ? 64 * MiB : 1 * MiB);
      const controller = new AbortController();
      const durable = await create();
      const taken = waitsFor === 'memory' && budget.tryTake(budget.total) ? budget.total : 0;
      const writing = failureOf(
        durable.write(sourceOf(piecesOf(pattern(20 * MiB), MiB)), controller.signal, new Witness()),
      );
      await turn();
      controller.abort(new RegistryError('UploadTaken', 'taken'));
      expect(await writing).to.equal('UploadTaken');
      budget.give(taken);
      for (const call of [...file.open]) call.end();
      const closing = durable.close();
      while (file.open.size > 0) {
        for (const call of [...file.open]) call.end();
        await turn();
      }
      await closing;
      expect(budget.free).to.equal(budget.total);
    }
  });

  it('goes on taking bytes while a report is not answered, and waits for it before it seals', async () => {
    let answer = () => {};
    let reports = 0;
    const slow = new (class extends Witness {
      override async durable(): Promise<void> {
        reports += 1;
        await new Promise<void>((resolve) => {
          answer = resolve;
        });
      }
    })();
    const durable = await create();
    await durable.write(sourceOf(piecesOf(pattern(90 * MiB), MiB)), never, slow);
    expect(reports).to.equal(1);
    let sealed = false;
    const seal = durable.seal().then(() => {
      sealed = true;
    });
    await turn();
    expect(sealed).to.equal(false);
    while (!sealed) {
      answer();
      await turn();
    }
    await seal;
    await durable.close();
  });

  it('gathers tiny pieces into few writes', async () => {
    const durable = await create();
    await durable.write(sourceOf(piecesOf(pattern(20_000), 1)), never, witness);
    await durable.seal();
    await durable.close();
    expect(file.what().filter((what) => what === 'write').length).to.be.below(200);
    expect(file.bytes.subarray(0, 20_000).equals(pattern(20_000))).to.equal(true);
  });
});
