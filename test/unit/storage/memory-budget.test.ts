import { expect } from 'chai';
import fc from 'fast-check';
import { MemoryBudget } from '../../../src/storage/memory-budget.js';

const never = new AbortController().signal;

describe('a memory budget', () => {
  it('serves who waits in turn, and lets nobody in before them', async () => {
    const budget = new MemoryBudget(100);
    expect(budget.tryTake(80)).to.equal(true);
    const served: string[] = [];
    const large = budget.take(50, never).then(() => served.push('large'));
    const small = budget.take(10, never).then(() => served.push('small'));
    expect(budget.tryTake(1)).to.equal(false);
    budget.give(80);
    await Promise.all([large, small]);
    expect(served).to.deep.equal(['large', 'small']);
    expect(budget.free).to.equal(40);
  });

  it('serves the next when the first in line goes away', async () => {
    const budget = new MemoryBudget(100);
    budget.tryTake(80);
    const controller = new AbortController();
    const large = budget.take(50, controller.signal).catch((error: Error) => error.message);
    const small = budget.take(10, never);
    controller.abort(new Error('left'));
    expect(await large).to.equal('left');
    await small;
    expect(budget.free).to.equal(10);
  });

  it('gives all of it to a request for more than there is', async () => {
    const budget = new MemoryBudget(100);
    await budget.take(500, never);
    expect([budget.free, budget.tryTake(1)]).to.deep.equal([0, false]);
    budget.give(500);
    expect(budget.free).to.equal(100);
  });

  it('is whole again when all have given back, whoever left meanwhile', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ bytes: fc.integer({ min: 0, max: 150 }), leaves: fc.boolean() }), { maxLength: 30 }),
        async (requests) => {
          const budget = new MemoryBudget(100);
          await Promise.all(
            requests.map(async ({ bytes, leaves }, index) => {
              const controller = new AbortController();
              if (leaves) setImmediate(() => controller.abort(new Error('left')));
              try {
                await budget.take(bytes, controller.signal);
              } catch {
                return;
              }
              expect(budget.free).to.be.at.least(0);
              if (index % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
              budget.give(bytes);
            }),
          );
          expect(budget.free).to.equal(100);
        },
      ),
      { numRuns: 50 },
    );
  });
});
