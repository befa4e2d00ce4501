import { expect } from 'chai';
import { RunningDigest } from '../../../src/oci/digest.js';
import { RunningDigests } from '../../../src/registry/running-digests.js';

function runOf(length: number): RunningDigest {
  const running = new RunningDigest('sha256');
  running.update(Buffer.alloc(length, 7));
  return running;
}

describe('running digests that a process keeps', () => {
  const sizeOf = (kept: RunningDigests, rewoundEpoch: number, offset: number) =>
    kept.resume('upload', 'sha256', { rewoundEpoch, offset }).size;

  it('are used as long as none of their bytes lost its name', () => {
    const kept = new RunningDigests();
    kept.keep('upload', 5, runOf(100));
    expect(sizeOf(kept, 0, 100)).to.equal(100);
    expect(sizeOf(kept, 5, 250)).to.equal(100);
    expect(sizeOf(kept, 6, 250)).to.equal(0);
    expect(sizeOf(kept, 5, 99)).to.equal(0);
  });

  it('are kept for each algorithm, and given out as copies', () => {
    const kept = new RunningDigests();
    kept.keep('upload', 1, runOf(100));
    kept.keep('upload', 2, new RunningDigest('sha512'));
    const copy = kept.resume('upload', 'sha256', { rewoundEpoch: 0, offset: 100 });
    copy.update(Buffer.from('x'));
    expect(sizeOf(kept, 0, 100)).to.equal(100);
    kept.forget('upload');
    expect(sizeOf(kept, 0, 100)).to.equal(0);
  });

  it('are not replaced by those of an earlier epoch', () => {
    const kept = new RunningDigests();
    kept.keep('upload', 3, runOf(300));
    kept.keep('upload', 2, runOf(200));
    expect(sizeOf(kept, 0, 300)).to.equal(300);
  });
});
