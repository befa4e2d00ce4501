import { appendFile, mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { FilesystemStore } from '../../../src/storage/filesystem.js';
import { MemoryBudget } from '../../../src/storage/memory-budget.js';
import type { PausePoint } from '../../../src/storage/segment-store.js';
import { descriptorsOf, until } from '../../faults/support/processes.js';
import { gather } from '../../support/gather.js';
import {
  agreed,
  describeSegmentStore,
  failureOf,
  never,
  newKey,
  pattern,
  sourceOf,
  Witness,
} from './segment-store-contract.js';

async function make(pause?: PausePoint) {
  const root = await mkdtemp(join(tmpdir(), 'weighhouse-store-'));
  const budget = new MemoryBudget(8 * 1024 * 1024);
  const store = new FilesystemStore({ root, budget, downloadMemory: 8 * 1024 * 1024, ...(pause && { pause }) });
  await store.mark('marker');
  await store.prepare();
  return { root, budget, store, dispose: () => rm(root, { recursive: true, force: true }) };
}

describeSegmentStore('the file system', () => make());

describe('segments as files', () => {
  let made: Awaited<ReturnType<typeof make>>;

  beforeEach(async () => {
    made = await make();
  });
  afterEach(async () => await made.dispose());

  async function put(length: number) {
    const key = newKey();
    const segment = await made.store.begin(key);
    await segment.write(sourceOf([pattern(length)]), never, new Witness());
    await segment.seal(agreed);
    await segment.close();
    return key;
  }

  it('breaks a stream whose file gets shorter under it', async () => {
    const key = await put(4_000_000);
    const stream = await made.store.open(key, { start: 0, end: 4_000_000 });
    await truncate(join(made.root, key), 100);
    const all = async () => {
      for await (const _ of stream);
    };
    expect(await failureOf(all())).to.equal('BlobDamaged');
  });

  it('leaves no descriptor and no memory behind', async () => {
    const key = await put(100_000);
    expect(await failureOf(made.store.open(key, { start: 0, end: 200_000 }))).to.equal('BlobDamaged');
    for (let time = 0; time < 10; time++) {
      const stream = await made.store.open(key, { start: 0, end: 100_000 });
      for await (const _ of stream) break;
    }
    await (await made.store.begin(newKey())).close();
    // A stream that is left closes its file a moment later.
    await until('all files are closed', async () =>
      (await descriptorsOf(process.pid)).every((name) => !name.startsWith(made.root)),
    );
    expect(made.budget.free).to.equal(made.budget.total);
  });

  it('leave the marker that stands in an otherwise empty folder to whoever came first', async () => {
    const root = await mkdtemp(join(tmpdir(), 'weighhouse-store-'));
    try {
      const store = new FilesystemStore({ root, budget: made.budget, downloadMemory: 0 });
      await store.mark('first');
      const refusal = await store.mark('second').catch((error: Error) => error.message);
      expect(refusal).to.match(/has a marker already/);
      expect(await store.readMarker()).to.equal('first');
      expect(await readdir(root)).to.deep.equal(['weighhouse.marker']);
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  });

  it('lists no stranger’s files, and does not mark a folder that holds any', async () => {
    await writeFile(join(made.root, '00', 'notes.txt'), 'x');
    for await (const key of made.store.list()) expect.fail(key);
    await rm(join(made.root, 'weighhouse.marker'));
    let message = '';
    await made.store.mark('marker').catch((error: Error) => {
      message = error.message;
    });
    expect(message).to.match(/holds/);
  });
});

describe('a file that looks short', () => {
  const bytes = pattern(3_000_000);
  let looks: number;
  let look: () => Promise<void>;
  let made: Awaited<ReturnType<typeof make>>;

  beforeEach(async () => {
    looks = 0;
    look = () => Promise.resolve();
    made = await make(async (name) => {
      if (name !== 'store:short') return;
      looks += 1;
      await look();
    });
  });
  afterEach(async () => await made.dispose());

  /** A segment of which this node sees the first `length` bytes as yet; the rest is there at the next look. */
  async function seen(length: number) {
    const key = newKey();
    const path = join(made.root, key);
    await writeFile(path, bytes.subarray(0, length));
    look = () => appendFile(path, bytes.subarray(length));
    return { key, path };
  }

  it('is opened again before it is called damaged', async () => {
    const { key } = await seen(1_000_000);
    const read = await gather(await made.store.open(key, { start: 10, end: bytes.length }));
    expect(read.equals(bytes.subarray(10))).to.equal(true);
    expect(looks).to.equal(1);
  });

  it('is opened again before its segment is called lost', async () => {
    const { key } = await seen(1_000_000);
    expect(await made.store.recover(key, bytes.length)).to.deep.equal({ objectSize: null });
    expect(looks).to.equal(1);
  });

  it('may be one that is not there yet', async () => {
    const key = newKey();
    look = () => writeFile(join(made.root, key), bytes);
    const read = await gather(await made.store.open(key, { start: 0, end: 100 }));
    expect(read.equals(bytes.subarray(0, 100))).to.equal(true);
    expect(looks).to.equal(1);
  });

  it('in the middle of a stream is opened again, and the stream goes on', async () => {
    const { key, path } = await seen(0);
    await writeFile(path, bytes);
    const stream = await made.store.open(key, { start: 0, end: bytes.length });
    await truncate(path, 2_500_000);
    look = () => appendFile(path, bytes.subarray(2_500_000));
    expect((await gather(stream)).equals(bytes)).to.equal(true);
    // Once by its name, which is long enough again only after that.
    expect(looks).to.equal(1);
  });

  it('is damaged when it is short at the second look, too', async () => {
    const { key } = await seen(1_000_000);
    look = () => Promise.resolve();
    expect(await failureOf(made.store.open(key, { start: 0, end: bytes.length }))).to.equal('BlobDamaged');
    expect(looks).to.equal(1);
  });
});
