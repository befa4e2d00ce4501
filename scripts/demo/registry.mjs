// The two doors of a registry, as far as the set needs them.
import { digestOf } from './packing.mjs';

/** Speaks with a registry at `url` with a key. @throws Error that tells what was asked and what was answered */
export class Registry {
  #url;
  #key;

  constructor(url, key) {
    this.#url = url;
    this.#key = key;
  }

  async #ask(method, path, { body, headers = {}, accept = [] } = {}) {
    let answer;
    try {
      answer = await fetch(new URL(path, this.#url), { method, body, headers: { 'x-api-key': this.#key, ...headers } });
    } catch (error) {
      throw new Error(`no registry answers at ${this.#url}: ${error.cause?.message ?? error.message}`, {
        cause: error,
      });
    }
    if (!answer.ok && !accept.includes(answer.status))
      throw new Error(`${method} ${path} was answered ${answer.status}: ${await answer.text()}`);
    return answer;
  }

  /** @returns what the metadata API answers, undefined for 404 */
  async api(method, path, content) {
    const json =
      content === undefined ? {} : { body: JSON.stringify(content), headers: { 'content-type': 'application/json' } };
    const answer = await this.#ask(method, `/api/v1${path}`, { ...json, accept: method === 'GET' ? [404] : [] });
    return answer.status === 404 ? undefined : await answer.json();
  }

  /** All pages of a list. */
  async list(path, query = {}) {
    const items = [];
    for (let cursor; ; ) {
      const search = new URLSearchParams({ ...query, limit: '1000', ...(cursor ? { cursor } : {}) });
      const page = await this.api('GET', `${path}?${search}`);
      items.push(...page.items);
      if (page.next === null) return items;
      cursor = page.next;
    }
  }

  /** The bytes of a release's manifest. */
  async manifestOf(release) {
    const answer = await this.#ask('GET', `/api/v1/releases/${release}/manifest`);
    return Buffer.from(await answer.arrayBuffer());
  }

  /** Adds a file to a release: to a draft as one of its own, to another as what is attached to it. */
  async upload(release, { path, bytes }, mediaType) {
    const query = new URLSearchParams({
      release_id: release,
      path,
      name: path.split('/').at(-1),
      media_type: mediaType,
    });
    query.set('checksum', digestOf(bytes));
    const headers = { 'content-type': 'application/octet-stream' };
    await this.#ask('POST', `/api/v1/artifacts/upload?${query}`, { body: bytes, headers });
  }

  /** Pushes bytes unless they are there. */
  async pushBlob(repository, bytes) {
    const digest = digestOf(bytes);
    const there = await this.#ask('HEAD', `/v2/${repository}/blobs/${digest}`, { accept: [404] });
    if (there.ok) return;
    const headers = { 'content-type': 'application/octet-stream' };
    await this.#ask('POST', `/v2/${repository}/blobs/uploads/?digest=${digest}`, { body: bytes, headers });
  }

  /** Pushes a manifest unless the reference means it already. @returns whether it was pushed */
  async pushManifest(repository, reference, { manifest, mediaType }) {
    const path = `/v2/${repository}/manifests/${reference}`;
    const there = await this.#ask('HEAD', path, { headers: { accept: mediaType }, accept: [404] });
    if (there.headers.get('docker-content-digest') === digestOf(manifest)) return false;
    await this.#ask('PUT', path, { body: manifest, headers: { 'content-type': mediaType } });
    return true;
  }
}
