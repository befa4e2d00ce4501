import { expect } from 'chai';
import { Turns } from '../../../src/storage/turns.js';

describe('turns', () => {
  it('let so many work at a time, and the others in the order in which they came, also after one that fails', async () => {
    const turns = new Turns(2);
    const ends: ((error?: Error) => void)[] = [];
    const begun: number[] = [];
    const works = [0, 1, 2, 3].map((number) =>
      turns
        .take(async () => {
          begun.push(number);
          await new Promise<void>((resolve, reject) => {
            ends[number] = (error) => (error ? reject(error) : resolve());
          });
          return number;
        })
        .catch((error: Error) => error.message),
    );
    await new Promise(setImmediate);
    expect(begun).to.deep.equal([0, 1]);
    ends[1]?.(new Error('failed'));
    await new Promise(setImmediate);
    expect(begun).to.deep.equal([0, 1, 2]);
    ends[0]?.();
    await new Promise(setImmediate);
    expect(begun).to.deep.equal([0, 1, 2, 3]);
    ends[2]?.();
    ends[3]?.();
    expect(await Promise.all(works)).to.deep.equal([0, 'failed', 2, 3]);
    expect(await turns.take(() => Promise.resolve('free'))).to.equal('free');
  });
});
