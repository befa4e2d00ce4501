import { expect } from 'chai';
import { Lease, LEASE_MS } from '../../../src/auth/lease.js';

describe('leases', () => {
  let now = 0;
  let loads: ((value: number) => void)[] = [];
  const lease = () => {
    now = 0;
    loads = [];
    return new Lease<number>(
      () => new Promise((resolve) => loads.push(resolve)),
      () => now,
    );
  };
  const answer = (value: number) => loads.shift()?.(value);

  it('are believed until their time is over, from before the value was read', async () => {
    const held = lease();
    const first = held.get();
    now = LEASE_MS - 1;
    answer(1);
    expect(await first).to.equal(1);
    expect(await held.get()).to.equal(1);
    now = LEASE_MS;
    const second = held.get();
    answer(2);
    expect(await second).to.equal(2);
  });

  it('are read once for all that wait, but not for whom it takes too long', async () => {
    const held = lease();
    const early = [held.get(), held.get()];
    expect(loads).to.have.length(1);
    now = LEASE_MS + 1;
    const late = held.get();
    expect(loads).to.have.length(2);
    answer(1);
    expect(await Promise.all(early)).to.deep.equal([1, 1]);
    answer(2);
    expect(await late).to.equal(2);
    expect(await held.get()).to.equal(2);
  });

  it('that end while the value is read are not begun by it', async () => {
    const held = lease();
    const first = held.get();
    held.end();
    const second = held.get();
    answer(1);
    answer(2);
    expect(await first).to.equal(1);
    expect(await second).to.equal(2);
    expect(await held.get()).to.equal(2);
  });

  it('keep nothing of a failure', async () => {
    let fails = true;
    const held = new Lease(async () => {
      if (fails) throw new Error('away');
      return 1;
    });
    const error: unknown = await held.get().catch((thrown: unknown) => thrown);
    expect(String(error)).to.include('away');
    fails = false;
    expect(await held.get()).to.equal(1);
  });
});
