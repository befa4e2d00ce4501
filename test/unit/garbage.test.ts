import { constants, PerformanceObserver } from 'node:perf_hooks';
import { passedBytes } from '../../src/garbage.js';

const MiB = 1024 * 1024;

describe('The garbage of bytes that pass', () => {
  it('is collected every 16 MiB', async () => {
    let young = 0;
    const observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as unknown as { detail: { kind: number } }[])
        if (entry.detail.kind === constants.NODE_PERFORMANCE_GC_MINOR) young += 1;
    });
    observer.observe({ entryTypes: ['gc'] });
    try {
      for (let count = 0; count < 8 * 16; count++) passedBytes(MiB);
      // Told a little later; what else is collected meanwhile comes on top.
      while (young < 8) await new Promise((resolve) => setTimeout(resolve, 10));
    } finally {
      observer.disconnect();
    }
  });
});
