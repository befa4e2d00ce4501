import { expect } from 'chai';
import { MAX_OBJECT_BYTES, MAX_PARTS, partBytes, soundBytes } from '../../../../src/storage/s3/part-plan.js';

const MiB = 1024 * 1024;
const sized = (sizes: readonly number[]) => sizes.map((size, index) => ({ number: index + 1, etag: 'e', size }));

describe('the plan of parts', () => {
  it('has room for 5 TiB in 10,000 parts, none of which S3 finds too small or too large', () => {
    let total = 0;
    let last = 0;
    for (let number = 1; number <= MAX_PARTS; number++) {
      const bytes = partBytes(number);
      expect(bytes).to.be.within(Math.max(5 * MiB, last), 5 * 1024 * MiB);
      // A part that breaks off costs little of what is there.
      if (number > 1000) expect(bytes).to.be.below(total / 400);
      last = bytes;
      total += bytes;
    }
    expect(total).to.be.at.least(MAX_OBJECT_BYTES);
  });

  it('tells how far listed parts go on without a gap, a short part or a strange one', () => {
    const whole = partBytes(1);
    expect(soundBytes([])).to.equal(0);
    expect(soundBytes(sized([whole, whole, 17]))).to.equal(2 * whole + 17);
    expect(soundBytes(sized([whole, 17, whole]))).to.equal(whole + 17);
    expect(soundBytes(sized([whole, whole + 1, whole]))).to.equal(whole);
    expect(soundBytes(sized([whole, whole, whole]).filter(({ number }) => number !== 2))).to.equal(whole);
  });
});
