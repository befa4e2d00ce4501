import { expect } from 'chai';
import { ReadMemory } from '../../../src/storage/read-memory.js';

const MiB = 1024 * 1024;

describe('The memory of downloads', () => {
  it('gives large buffers to a few and smaller ones to many, within its total', () => {
    const memory = new ReadMemory(32 * MiB);
    const taken: Buffer[][] = [];
    while (memory.held + 2 * MiB < 32 * MiB && taken.length < 1_000) {
      taken.push(memory.take(2, Number.POSITIVE_INFINITY));
      if (memory.held > 32 * MiB) break;
    }
    expect(memory.held).to.be.at.most(32 * MiB);
    expect(taken[0]?.map((buffer) => buffer.length)).to.deep.equal([MiB, MiB]);
    expect(taken.at(-1)?.[0]?.length).to.be.below(MiB);
    for (const buffers of taken) memory.give(buffers);
    expect(memory.held).to.equal(0);
  });

  it('gives something to whoever comes, however little is left', () => {
    const memory = new ReadMemory(MiB);
    const taken = Array.from({ length: 100 }, () => memory.take(3, Number.POSITIVE_INFINITY));
    expect(taken.at(-1)?.map((buffer) => buffer.length)).to.deep.equal([65_536, 65_536, 65_536]);
  });

  it('gives no more than can be read', () => {
    const memory = new ReadMemory(32 * MiB);
    expect(memory.take(2, 1_000).map((buffer) => buffer.length)).to.deep.equal([1_000, 1_000]);
    expect(memory.held).to.equal(2_000);
  });

  it('gives the same buffers again, to one at a time', () => {
    const memory = new ReadMemory(32 * MiB);
    const first = memory.take(2, MiB);
    memory.give(first);
    const second = memory.take(2, MiB);
    expect(new Set(second)).to.deep.equal(new Set(first));
    for (const buffer of memory.take(2, MiB)) expect(second).to.not.include(buffer);
  });

  it('keeps few of them when nobody reads', () => {
    const memory = new ReadMemory(1024 * MiB);
    const taken = Array.from({ length: 20 }, () => memory.take(2, MiB));
    for (const buffers of taken) memory.give(buffers);
    const former = new Set(taken.flat());
    const again = Array.from({ length: 20 }, () => memory.take(2, MiB)).flat();
    expect(again.filter((buffer) => former.has(buffer))).to.have.lengthOf(8);
  });
});
