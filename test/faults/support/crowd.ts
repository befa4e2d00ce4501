import { setTimeout as sleep } from 'node:timers/promises';
import { putManifest, type TagStory } from './artifact.js';
import { type Chance, Content } from './bytes.js';
import type { Ledger } from './oracle.js';
import { type Traffic, Upload } from './upload.js';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Clients of several kinds that push until they are told to stop, whatever happens to the registry meanwhile. */
export class Crowd {
  #stopped = false;
  #clients: Promise<void>[] = [];
  #count = 0;

  constructor(
    readonly traffic: Traffic,
    readonly ledger: Ledger,
    /** Tells this crowd's bytes from another's. */
    readonly name: string,
  ) {}

  start(chance: Chance): void {
    this.#run(chance, (own) => this.#whole(own));
    this.#run(chance, (own) => this.#stream(own));
    this.#run(chance, (own) => this.#chunks(own));
    this.#run(chance, (own) => this.#artifacts(own));
    this.#run(chance, (own) => this.#same(own));
    this.#run(chance, (own) => this.#abandoned(own));
  }

  /** Each client ends the upload that it is at, to the 201. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#clients);
  }

  #run(chance: Chance, once: (own: Chance) => Promise<void>): void {
    // A chance of its own, so that what it does hangs on the seed and not on who came first.
    const own = new (chance.constructor as typeof Chance)(Math.floor(chance.next() * 2 ** 32));
    const loop = async () => {
      while (!this.#stopped) await once(own);
    };
    const client = this.traffic.gate.client(loop);
    // Told when the crowd is stopped; until then it must not end the process.
    client.catch(() => undefined);
    this.#clients.push(client);
  }

  #upload(repository: string, size: number, name = `${this.#count++}`): Upload {
    const upload = new Upload(this.traffic, `${this.name}/${repository}`, new Content(`${this.name} ${name}`, size));
    this.ledger.uploads.push(upload);
    return upload;
  }

  /** One PUT of some MiB; after a break the rest, or all of it again without asking. */
  async #whole(chance: Chance): Promise<void> {
    const upload = this.#upload('whole', chance.whole(2 * MiB, 24 * MiB));
    await upload.begin();
    const asks = chance.next() < 0.6;
    await upload.put({ pauseMs: chance.whole(0, 1) });
    await upload.finish(() => asks);
  }

  /** One PATCH without a length, slowly, then an empty PUT: docker. */
  async #stream(chance: Chance): Promise<void> {
    const upload = this.#upload('stream', chance.whole(1 * MiB, 12 * MiB));
    await upload.begin();
    const answer = await upload.patch(upload.content.size, { pauseMs: chance.whole(1, 8) });
    if (answer === 'done') await upload.put({ empty: true });
    await upload.finish();
  }

  /** Many PATCHes with Content-Range, the last one's bytes often in the PUT. */
  async #chunks(chance: Chance): Promise<void> {
    const upload = this.#upload('chunks', chance.whole(1, 3 * MiB));
    await upload.begin();
    const { size } = upload.content;
    const last = chance.next() < 0.5 ? size : Math.max(0, size - chance.whole(1, 100 * KiB));
    while (upload.told < last) {
      await this.traffic.gate.pass();
      const end = Math.min(last, upload.told + chance.pick([1, 15, 4 * KiB, 100 * KiB, 400 * KiB]));
      const answer = await upload.patch(end, { ranged: true });
      if (answer === 'done') continue;
      await upload.breathe(answer);
      await upload.status();
    }
    await upload.put({ ranged: true });
    await upload.finish();
  }

  /** Small layers, a manifest over them, a tag that moves. */
  async #artifacts(chance: Chance): Promise<void> {
    const tag = `v${chance.whole(1, 3)}`;
    const repository = `${this.name}/artifacts`;
    let story: TagStory | undefined = this.ledger.tags.find(
      (known) => known.tag === tag && known.repository === repository,
    );
    if (!story) {
      story = { repository, tag, acknowledged: undefined, unheard: new Set() };
      this.ledger.tags.push(story);
    }
    const layers: Content[] = [];
    for (let left = chance.whole(1, 3); left > 0; left--) {
      const upload = this.#upload('artifacts', chance.whole(1, 20 * KiB));
      await upload.finish();
      layers.push(upload.content);
    }
    await putManifest(this.traffic, story, layers);
  }

  /** The same bytes from two clients at once, in one repository or two. */
  async #same(chance: Chance): Promise<void> {
    const size = chance.whole(1, 2 * MiB);
    const name = `same ${this.#count++}`;
    const pair = [this.#upload('same', size, name), this.#upload(chance.pick(['same', 'other']), size, name)];
    for (const upload of pair) await upload.begin();
    // As one client to the gate: it waits only when both do, so they are run to their breaks and then in turn.
    await Promise.all(pair.map((upload) => upload.put({ pauseMs: chance.whole(0, 2) })));
    for (const upload of pair) await upload.finish();
  }

  /** Uploads that are never ended. */
  async #abandoned(chance: Chance): Promise<void> {
    const upload = this.#upload('abandoned', chance.whole(1, 512 * KiB));
    await upload.begin();
    await upload.patch(chance.whole(1, upload.content.size), { ranged: true, pauseMs: 1 });
    await sleep(chance.whole(50, 200));
  }
}
