import { expect } from 'chai';
import { REMEMBER_MS, Remembered } from '../../../src/registry/remembered.js';

describe('answers that are remembered', () => {
  let now = { monotonic: 1_000, wall: 5_000 };
  let asked: { answer: (value: string) => void; fail: (error: Error) => void }[] = [];
  const load = () => new Promise<string>((answer, fail) => asked.push({ answer, fail }));

  beforeEach(() => {
    now = { monotonic: 1_000, wall: 5_000 };
    asked = [];
  });
  const remembered = (sizeOf = (_: string) => 0) => new Remembered<string>({ sizeOf, now: () => ({ ...now }) });
  const pass = (monotonic: number, wall = monotonic) => {
    now = { monotonic: now.monotonic + monotonic, wall: now.wall + wall };
  };
  /** Loads a value that comes at once. */
  const keep = async (memory: Remembered<string>, key: string, value: string) =>
    await memory.get(key, async () => value);

  it('are given out until their time is over, from before they were read', async () => {
    const memory = remembered();
    const first = memory.get('a', load);
    pass(REMEMBER_MS - 1);
    asked[0]?.answer('one');
    expect(await first).to.equal('one');
    expect(await memory.get('a', load)).to.equal('one');
    pass(1);
    const second = memory.get('a', load);
    asked[1]?.answer('two');
    expect(await second).to.equal('two');
  });

  for (const [what, monotonic, wall] of [
    ['the machine was suspended', 1, 3_600_000],
    ['the clock was set back', 1, -3_600_000],
  ] as const) {
    it(`are not given out when ${what}`, async () => {
      const memory = remembered();
      await keep(memory, 'a', 'one');
      pass(monotonic, wall);
      expect(await keep(memory, 'a', 'two')).to.equal('two');
    });
  }

  it('are read once for all who come meanwhile', async () => {
    const memory = remembered();
    const all = [memory.get('a', load), memory.get('a', load), memory.get('b', load)];
    expect(asked).to.have.length(2);
    asked[0]?.answer('one');
    asked[1]?.answer('other');
    expect(await Promise.all(all)).to.deep.equal(['one', 'one', 'other']);
  });

  it('are read anew by whoever came after a question that found nothing', async () => {
    const memory = remembered();
    const early = memory.get('a', load).catch(String);
    pass(1);
    const late = memory.get('a', load);
    expect(asked).to.have.length(1);
    asked[0]?.fail(new Error('not there'));
    expect(await early).to.contain('not there');
    asked[1]?.answer('there');
    expect(await late).to.equal('there');
  });

  it('keep nothing of what failed', async () => {
    const memory = remembered();
    const failing = memory.get('a', load).catch(String);
    asked[0]?.fail(new Error('not there'));
    await failing;
    expect(await keep(memory, 'a', 'there')).to.equal('there');
  });

  it('are dropped, the oldest first, when they are too many or too large', async () => {
    const many = remembered();
    for (let at = 0; at <= 1_000; at++) await keep(many, `key ${at}`, 'old');
    expect(await keep(many, 'key 1000', 'new')).to.equal('old');
    expect(await keep(many, 'key 0', 'new')).to.equal('new');

    const large = remembered(() => 3 * 1024 * 1024);
    for (const key of ['a', 'b', 'c']) await keep(large, key, 'old');
    expect(await keep(large, 'c', 'new')).to.equal('old');
    expect(await keep(large, 'a', 'new')).to.equal('new');
  });
});
