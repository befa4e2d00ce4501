// A client with a repository of its own, which knows what was acknowledged, and looks for it all the time.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, send } from '../../faults/support/exchange.js';
import { type Blob, drawFrom, type Made, makeImage, makeIndex } from './content.js';

const TAGS = ['v1-fp16', 'v2-fp16', 'v2-int8', 'latest', 'edge'];
const INDEX_TAGS = ['all', 'all-old'];
const PAUSE_MS = 100;
/** Counted by what was asked, or went wrong. */
export type Counts = Map<string, number>;

/** What a client shares with the others. */
export interface Stage {
  readonly host: string;
  readonly pool: readonly Blob[];
  readonly names: readonly string[];
  readonly counts: Counts;
  /** What must not be, in words. */
  readonly faults: string[];
  /** How long something that one was told of can be relied upon. */
  readonly graceMs: number;
  readonly over: AbortSignal;
}

/** Not sent to its end, or the registry was away: nobody knows what became of it. */
class Unknown extends Error {}

interface Referrer {
  readonly subject: Made;
  readonly made: Made;
}

export class Client {
  readonly #stage: Stage;
  readonly #name: string;
  readonly #draw: (below: number) => number;
  /** What each tag may mean: one thing, or several after an answer that was not heard. Undefined: it is not there. */
  readonly #tags = new Map<string, readonly (Made | undefined)[]>();
  /** Referrers that were acknowledged while their subject was tagged, and the tag has meant it since. */
  #referrers: Referrer[] = [];
  #pinned: { id: string; made: Made } | undefined;
  #model: string | undefined;
  #number = 0;

  constructor(stage: Stage, index: number) {
    this.#stage = stage;
    this.#name = stage.names[index] ?? '';
    this.#draw = drawFrom(index + 1);
  }

  async run(): Promise<void> {
    while (!this.#stage.over.aborted) {
      try {
        await this.#step();
      } catch (error) {
        if (!(error instanceof Unknown)) throw error;
        this.#count('not heard');
        await sleep(PAUSE_MS);
      }
    }
  }

  /** Looks at everything that was acknowledged; nothing is under way. */
  async checkAll(): Promise<void> {
    for (const tag of this.#tags.keys()) await this.#checkTag(tag);
    for (const referrer of this.#referrers) await this.#checkReferrer(referrer);
    if (this.#pinned) await this.#checkManifest(this.#pinned.made, 'which a deployment pins');
  }

  async #step(): Promise<void> {
    const tag = this.#of(TAGS);
    switch (this.#draw(14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return await this.#push(tag);
      case 4:
        return await this.#pushIndex();
      case 5:
        return await this.#pushReferrer(tag);
      case 6:
        return await this.#removeTag(this.#of([...TAGS, ...INDEX_TAGS]));
      case 7:
        return await this.#removeManifest(tag);
      case 8:
        return await this.#removeBlob();
      case 9:
        return await this.#deploy();
      case 10:
        return await this.#pushAlone();
      case 11:
        if (this.#pinned) await this.#checkManifest(this.#pinned.made, 'which a deployment pins');
        for (const referrer of this.#referrers) await this.#checkReferrer(referrer);
        return;
      default:
        return await this.#checkTag(this.#of([...TAGS, ...INDEX_TAGS]));
    }
  }

  #of<T>(items: readonly T[]): T {
    return items[this.#draw(items.length)] as T;
  }

  #count(what: string): void {
    this.#stage.counts.set(what, (this.#stage.counts.get(what) ?? 0) + 1);
  }

  #fault(text: string): void {
    this.#stage.faults.push(`${new Date().toISOString()} ${this.#name}: ${text}`);
  }

  /** @throws Unknown if no answer came that says what happened. */
  async #ask(
    method: string,
    path: string,
    body?: Uint8Array,
    headers: Record<string, string> = {},
    mayFail: readonly number[] = [],
  ): Promise<Answer> {
    const options = body === undefined ? { headers } : { headers, body };
    const answer = await send(this.#stage.host, method, path, options);
    if (!answer || answer.status === 503) throw new Unknown();
    if (answer.status >= 500 || (answer.status >= 400 && ![400, 404, ...mayFail].includes(answer.status))) {
      this.#fault(`${method} ${path}: ${answer.status} ${answer.body.toString().slice(0, 300)}`);
      throw new Unknown();
    }
    return answer;
  }

  #path(rest: string): string {
    return `/v2/${this.#name}/${rest}`;
  }

  /** As clients do: asks, mounts or uploads. @returns when it was first told that the blob is there; undefined: it is not. */
  async #bring(blob: Blob): Promise<boolean> {
    const head = await this.#ask('HEAD', this.#path(`blobs/${blob.digest}`));
    if (head.status === 200) {
      this.#count('blobs that were there');
      return true;
    }
    const from = this.#of(this.#stage.names);
    const mounting = this.#draw(3) === 0 ? `?mount=${blob.digest}&from=${from}` : '';
    const opened = await this.#ask('POST', this.#path(`blobs/uploads/${mounting}`));
    if (opened.status === 201) {
      this.#count('mounts');
      return true;
    }
    const location = opened.headers.location;
    if (opened.status !== 202 || location === undefined) return false;
    const { pathname, search } = new URL(location, `http://${this.#stage.host}`);
    const put = await this.#ask(
      'PUT',
      `${pathname}${search ? `${search}&` : '?'}digest=${blob.digest}`,
      blob.bytes,
      {},
      [409],
    );
    if (put.status === 201) this.#count('blobs pushed');
    // A session lives for a second here, and the machine may stand still for longer: then it is taken away (404, 409).
    return put.status === 201;
  }

  /** Pushes what a manifest names, and it. @returns whether it was acknowledged. */
  async #pushManifest(made: Made, reference: string): Promise<boolean> {
    const since = performance.now();
    for (const blob of made.blobs) if (!(await this.#bring(blob))) return false;
    return await this.#putManifest(made, reference, since);
  }

  async #putManifest(made: Made, reference: string, since: number): Promise<boolean> {
    const path = this.#path(`manifests/${reference}`);
    const put = await this.#ask('PUT', path, made.payload, { 'content-type': made.mediaType }, [403, 409]);
    if (put.status === 201) {
      this.#count('manifests pushed');
      return true;
    }
    const took = performance.now() - since;
    if (put.status === 400 && took < this.#stage.graceMs)
      this.#fault(`PUT ${path} ${took} ms after it was told of all blobs: ${put.body.toString()}`);
    this.#count(put.status === 400 ? 'manifests too late' : 'manifests refused');
    return false;
  }

  /** Sets what a tag may mean while the answer is on its way, and what it means when it is there. */
  async #set(tag: string, made: Made | undefined, change: () => Promise<boolean>): Promise<boolean> {
    const before = this.#tags.get(tag) ?? [undefined];
    this.#tags.set(tag, [...before, made]);
    const done = await change();
    this.#tags.set(tag, done ? [made] : before);
    if (done) this.#forgetReferrers();
    return done;
  }

  /** What a tag means for certain; asks if an answer was not heard. */
  async #meaning(tag: string): Promise<Made | undefined> {
    const may = this.#tags.get(tag) ?? [undefined];
    if (may.length === 1) return may[0];
    const answer = await this.#ask('GET', this.#path(`manifests/${tag}`));
    const digest = answer.status === 200 ? answer.headers['docker-content-digest'] : undefined;
    const found = may.find((made) => made?.digest === digest);
    if (found === undefined && digest !== undefined) this.#fault(`${tag} is ${digest}, which nobody put there`);
    if (digest === undefined && !may.includes(undefined)) this.#fault(`${tag} is gone`);
    this.#tags.set(tag, [found]);
    this.#forgetReferrers();
    return found;
  }

  #certain(): Made[] {
    return [...this.#tags.values()].flatMap((may) => (may.length === 1 && may[0] ? [may[0]] : []));
  }

  /** Of subjects that may be untagged nothing is said any more. */
  #forgetReferrers(): void {
    const there = this.#certain();
    this.#referrers = this.#referrers.filter(({ subject }) => there.some(({ digest }) => digest === subject.digest));
  }

  #image(subject?: Made): Made {
    const layers = Array.from({ length: 1 + this.#draw(3) }, () => this.#of(this.#stage.pool));
    return makeImage([...new Set(layers)], `${this.#name} ${this.#draw(30)}`, subject);
  }

  async #push(tag: string): Promise<void> {
    const made = this.#image();
    await this.#set(tag, made, () => this.#pushManifest(made, tag));
  }

  /** Without a tag: it is there for a while at least. */
  async #pushAlone(): Promise<void> {
    const made = this.#image();
    const since = performance.now();
    if (!(await this.#pushManifest(made, made.digest))) return;
    const got = await this.#ask('GET', this.#path(`manifests/${made.digest}`));
    if (got.status !== 200 && performance.now() - since < this.#stage.graceMs)
      this.#fault(`${made.digest} was gone right after its push`);
  }

  async #pushIndex(): Promise<void> {
    const children = (await Promise.all([this.#of(TAGS), this.#of(TAGS)].map((tag) => this.#meaning(tag)))).filter(
      (made) => made !== undefined,
    );
    if (children.length === 0) return;
    const made = makeIndex([...new Map(children.map((child) => [child.digest, child])).values()], this.#name);
    const tag = this.#of(INDEX_TAGS);
    await this.#set(tag, made, async () => await this.#putManifest(made, tag, performance.now()));
  }

  async #pushReferrer(tag: string): Promise<void> {
    const subject = await this.#meaning(tag);
    if (!subject) return;
    const made = this.#image(subject);
    if (await this.#pushManifest(made, made.digest)) this.#referrers.push({ subject, made });
  }

  async #removeTag(tag: string): Promise<void> {
    await this.#set(tag, undefined, async () => {
      const gone = await this.#ask('DELETE', this.#path(`manifests/${tag}`), undefined, {}, [403, 409]);
      this.#count(gone.status === 202 ? 'tags removed' : 'removals refused');
      return gone.status === 202 || gone.status === 404;
    });
  }

  /** One that no index lists: what is removed out of an index is its client's affair. */
  async #removeManifest(tag: string): Promise<void> {
    const made = await this.#meaning(tag);
    if (!made) return;
    const all = [...this.#tags.values()].flat();
    if (all.some((index) => index?.children.some(({ digest }) => digest === made.digest))) return;
    const others = [...this.#tags].filter(([, may]) => may.some((one) => one?.digest === made.digest));
    for (const [other, may] of others) this.#tags.set(other, [...may, undefined]);
    this.#referrers = this.#referrers.filter(({ subject }) => subject.digest !== made.digest);
    const gone = await this.#ask('DELETE', this.#path(`manifests/${made.digest}`), undefined, {}, [403, 409]);
    this.#count(gone.status === 202 ? 'manifests removed' : 'removals refused');
    if (gone.status === 202 && this.#pinned?.made.digest === made.digest)
      this.#fault(`${made.digest} was removed, which a deployment pins`);
    for (const [other, may] of others) this.#tags.set(other, gone.status === 202 ? [undefined] : may);
  }

  async #removeBlob(): Promise<void> {
    const { digest } = this.#of(this.#stage.pool);
    const gone = await this.#ask('DELETE', this.#path(`blobs/${digest}`), undefined, {}, [403]);
    if (gone.status !== 202) return;
    this.#count('blobs removed');
    const user = this.#certain().find((made) => made.blobs.some((blob) => blob.digest === digest));
    if (user) this.#fault(`blob ${digest} could be removed, which ${user.digest} names`);
  }

  /** Deploys the release of a tag, or ends a deployment. */
  async #deploy(): Promise<void> {
    const json = { 'content-type': 'application/json' };
    const ask = (method: string, path: string, body?: object) =>
      this.#ask(method, `/api/v1${path}`, body && Buffer.from(JSON.stringify(body)), body && json, [403, 409, 422]);
    this.#model ??= await this.#makeModel(ask);
    if (this.#model === undefined) return;
    if (this.#pinned) {
      const { id } = this.#pinned;
      // Until the answer is there nobody knows.
      this.#pinned = undefined;
      const ended = await ask('PATCH', `/deployments/${id}`, { status: 'retired' });
      this.#count(ended.status === 200 ? 'deployments ended' : 'deployments refused');
      return;
    }
    const tag = this.#of(TAGS.slice(0, 3));
    const made = await this.#meaning(tag);
    if (!made) return;
    const found = await ask('GET', `/releases?model_id=${this.#model}&digest=${made.digest}`);
    const [release] = (JSON.parse(found.body.toString()) as { items?: { id: string; digest: string }[] }).items ?? [];
    if (release?.digest !== made.digest) return;
    const body = { release_id: release.id, environment: `soak-${this.#number++}`, status: 'active' };
    const deployed = await ask('POST', '/deployments', body);
    if (deployed.status !== 201) return this.#count('deployments refused');
    this.#count('deployments');
    const { id, digest } = JSON.parse(deployed.body.toString()) as { id: string; digest: string };
    if (digest === made.digest) this.#pinned = { id, made };
  }

  async #makeModel(ask: (method: string, path: string, body?: object) => Promise<Answer>) {
    const made = await ask('POST', '/models', { name: this.#name, storage_path: this.#name });
    if (made.status === 201) return (JSON.parse(made.body.toString()) as { id: string }).id;
    const found = await ask('GET', `/models/${encodeURIComponent(this.#name)}`);
    return found.status === 200 ? (JSON.parse(found.body.toString()) as { id: string }).id : undefined;
  }

  async #checkTag(tag: string): Promise<void> {
    const made = await this.#meaning(tag);
    const answer = await this.#ask('GET', this.#path(`manifests/${tag}`));
    this.#count('tags checked');
    const digest = answer.status === 200 ? answer.headers['docker-content-digest'] : undefined;
    if (digest !== made?.digest) return this.#fault(`${tag} is ${digest ?? 'gone'}, not ${made?.digest ?? 'gone'}`);
    if (made) await this.#checkManifest(made, tag);
  }

  async #checkManifest(made: Made, what: string): Promise<void> {
    const got = await this.#ask('GET', this.#path(`manifests/${made.digest}`));
    if (got.status !== 200 || !got.body.equals(made.payload))
      return this.#fault(`${made.digest} (${what}): ${got.status}`);
    for (const { digest, bytes } of made.blobs) {
      const blob = await this.#ask('GET', this.#path(`blobs/${digest}`));
      if (blob.status !== 200 || !blob.body.equals(bytes))
        this.#fault(`blob ${digest} of ${made.digest} (${what}): ${blob.status}`);
    }
    for (const child of made.children) await this.#checkManifest(child, `listed by ${what}`);
  }

  async #checkReferrer({ subject, made }: Referrer): Promise<void> {
    if (!this.#certain().some(({ digest }) => digest === subject.digest)) return;
    const list = await this.#ask('GET', this.#path(`referrers/${subject.digest}`));
    const { manifests } = JSON.parse(list.body.toString()) as { manifests?: { digest: string }[] };
    this.#count('referrers checked');
    if (!manifests?.some(({ digest }) => digest === made.digest))
      return this.#fault(`${made.digest} is no referrer of ${subject.digest} any more`);
    await this.#checkManifest(made, 'a referrer');
  }
}
