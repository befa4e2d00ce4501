import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetBucketLifecycleConfigurationCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { attempt, attempts } from './attempts.js';
import { openClients, type S3Options } from './client.js';
import { isAnswer, S3Error } from './failures.js';
import { harmOf } from './lifecycle.js';
import type { ListedPart } from './part-plan.js';

/** The most that S3 lists at once. */
const PAGE = 1_000;
/** What carries bytes gets so much more time: a gateway that takes fewer of each counts as hanging. */
const SLOWEST_BYTES_PER_MS = 4096;

/** The requests of S3 that the store makes, below one prefix of a bucket. All throw S3Error. */
export class S3Bucket {
  readonly prefix: string;
  /** What one request may take, in milliseconds. */
  readonly limitMs: number;
  readonly #client: S3Client;
  /** For what is sent once: on connections of its own, as a kept one may just be closed by the other side. */
  readonly #streamer: S3Client;
  /** Only signs. */
  readonly #signer: S3Client;
  readonly #bucket: string;

  constructor(options: S3Options) {
    this.#bucket = options.bucket;
    this.prefix = options.prefix;
    this.limitMs = options.timeoutSeconds * 1000;
    ({ client: this.#client, streamer: this.#streamer, signer: this.#signer } = openClients(options));
  }

  close(): void {
    for (const client of [this.#client, this.#streamer, this.#signer]) client.destroy();
  }

  /** The object's size, or undefined if there is none. */
  async find(name: string): Promise<{ size: number } | undefined> {
    const command = new HeadObjectCommand(this.#at(name));
    const head = await orMissing(this.#repeat('HEAD', (abortSignal) => this.#client.send(command, { abortSignal })));
    return head && { size: head.ContentLength ?? 0 };
  }

  /** Puts an object in one request. `exclusive`: 'exists' if there is one. `md5`: the body's, if it is known. */
  async put(
    name: string,
    body: Buffer,
    { exclusive = false, md5 }: { exclusive?: boolean; md5?: Buffer | undefined } = {},
  ): Promise<void> {
    const ContentMD5 = (md5 ?? createHash('md5').update(body).digest()).toString('base64');
    const input = { ...this.#at(name), Body: body, ContentLength: body.length, ContentMD5 };
    const command = new PutObjectCommand({ ...input, ...(exclusive && { IfNoneMatch: '*' }) });
    await this.#repeat('PUT', (abortSignal) => this.#client.send(command, { abortSignal }), body.length);
  }

  /** Bytes from `start` up to, not including, `end`; `size` is that of the whole object. The caller destroys the body. */
  async get(name: string, start: number, end: number): Promise<{ body: IncomingMessage; size: number }> {
    const command = new GetObjectCommand({ ...this.#at(name), Range: `bytes=${start}-${end - 1}` });
    const answer = await this.#repeat('GET', (abortSignal) => this.#client.send(command, { abortSignal }));
    const body = answer.Body as unknown as IncomingMessage;
    const size = Number(/\/([0-9]+)$/.exec(answer.ContentRange ?? '')?.[1]);
    if (Number.isSafeInteger(size)) return { body, size };
    body.destroy();
    throw new S3Error('GET', 'again', 'NoContentRange', undefined, 'the answer is not the range that was asked for');
  }

  /** An address by which a client can read the object. */
  async sign(name: string, lifetimeSeconds: number): Promise<URL> {
    const command = new GetObjectCommand({ ...this.#at(name), ResponseContentType: 'application/octet-stream' });
    return new URL(await getSignedUrl(this.#signer, command, { expiresIn: lifetimeSeconds }));
  }

  /** A small object, whole; undefined if there is none. */
  async read(name: string): Promise<string | undefined> {
    const command = new GetObjectCommand(this.#at(name));
    return await orMissing(
      this.#repeat('GET', async (abortSignal) => {
        const { Body: body } = await this.#client.send(command, { abortSignal });
        return (await body?.transformToString()) ?? '';
      }),
    );
  }

  async remove(name: string): Promise<void> {
    const command = new DeleteObjectCommand(this.#at(name));
    await this.#repeat('DELETE', (abortSignal) => this.#client.send(command, { abortSignal }));
  }

  /** Begins a multipart upload; repeated it may leave a second one, which goes with its key. @returns its id. */
  async begin(name: string): Promise<string> {
    const command = new CreateMultipartUploadCommand(this.#at(name));
    const { UploadId: upload } = await this.#repeat('CreateMultipartUpload', (abortSignal) =>
      this.#client.send(command, { abortSignal }),
    );
    if (!upload) throw new S3Error('CreateMultipartUpload', 'again', 'NoUploadId', undefined, '');
    return upload;
  }

  /** Sends a part, again if need be, with its MD5 (base64) for S3 to check. @returns its ETag, and whether it was sent once. */
  async putPart(
    name: string,
    upload: string,
    number: number,
    body: Buffer,
    md5: string,
    signal: AbortSignal,
  ): Promise<{ etag: string; once: boolean }> {
    const input = { ...this.#at(name), UploadId: upload, PartNumber: number };
    const command = new UploadPartCommand({ ...input, Body: body, ContentLength: body.length, ContentMD5: md5 });
    let times = 0;
    const send = (abortSignal: AbortSignal) => {
      times += 1;
      return this.#client.send(command, { abortSignal });
    };
    const { ETag: etag = '' } = await this.#repeat('UploadPart', send, body.length, signal);
    return { etag, once: times === 1 };
  }

  /** Sends a part while its bytes arrive, once; the signal ends it. @returns its ETag. */
  async streamPart(
    name: string,
    upload: string,
    number: number,
    body: Readable,
    length: number,
    signal: AbortSignal,
  ): Promise<string> {
    const input = { ...this.#at(name), UploadId: upload, PartNumber: number };
    const command = new UploadPartCommand({ ...input, Body: body, ContentLength: length });
    const send = (abortSignal: AbortSignal) => this.#streamer.send(command, { abortSignal });
    // Clients may take days: whoever fills it watches over it.
    return (await attempt('UploadPart', 2 ** 31 - 1, send, signal)).ETag ?? '';
  }

  /** The parts of an upload in order, or undefined if there is no such upload. */
  async listParts(name: string, upload: string, pageSize = PAGE): Promise<ListedPart[] | undefined> {
    const parts: ListedPart[] = [];
    for (let marker: string | undefined; ; ) {
      const command = new ListPartsCommand({
        ...this.#at(name),
        UploadId: upload,
        PartNumberMarker: marker,
        MaxParts: pageSize,
      });
      const send = (abortSignal: AbortSignal) => this.#client.send(command, { abortSignal });
      const page = await orMissing(this.#repeat('ListParts', send));
      if (!page) return undefined;
      for (const { PartNumber: number = 0, ETag: etag = '', Size: size = 0 } of page.Parts ?? [])
        parts.push({ number, etag, size });
      marker = page.NextPartNumberMarker;
      if (!page.IsTruncated || !marker) return parts.sort((a, b) => a.number - b.number);
    }
  }

  /** Sends Complete, once. Whatever it throws, it may have taken place, or still may within the limit. */
  async complete(name: string, upload: string, parts: readonly Omit<ListedPart, 'size'>[]): Promise<void> {
    const Parts = parts.map(({ number, etag }) => ({ PartNumber: number, ETag: etag }));
    const command = new CompleteMultipartUploadCommand({
      ...this.#at(name),
      UploadId: upload,
      MultipartUpload: { Parts },
    });
    const send = (abortSignal: AbortSignal) => this.#client.send(command, { abortSignal });
    await attempt('CompleteMultipartUpload', this.limitMs, send);
  }

  /** Called where a key is removed, which no row names, and nowhere else: after a Complete it loses data. */
  async abort(name: string, upload: string): Promise<void> {
    const command = new AbortMultipartUploadCommand({ ...this.#at(name), UploadId: upload });
    await orMissing(this.#repeat('AbortMultipartUpload', (abortSignal) => this.#client.send(command, { abortSignal })));
  }

  /** Names that begin with `start`, in order; only those that come after `after`, where it is given. */
  async *names(start: string, pageSize = PAGE, after?: string): AsyncGenerator<string> {
    for (let token: string | undefined; ; ) {
      const command = new ListObjectsV2Command({
        Bucket: this.#bucket,
        Prefix: this.prefix + start,
        MaxKeys: pageSize,
        ContinuationToken: token,
        ...(after !== undefined && token === undefined && { StartAfter: this.prefix + after }),
      });
      const page = await this.#repeat('ListObjects', (abortSignal) => this.#client.send(command, { abortSignal }));
      for (const { Key: key = '' } of page.Contents ?? []) yield key.slice(this.prefix.length);
      token = page.NextContinuationToken;
      if (!page.IsTruncated || !token) return;
    }
  }

  /** Unfinished uploads of names that begin with `start`. */
  async *uploads(start: string, pageSize = PAGE): AsyncGenerator<{ name: string; upload: string }> {
    for (let key: string | undefined, id: string | undefined; ; ) {
      const command = new ListMultipartUploadsCommand({
        Bucket: this.#bucket,
        Prefix: this.prefix + start,
        KeyMarker: key,
        UploadIdMarker: id,
        MaxUploads: pageSize,
      });
      const page = await this.#repeat('ListMultipartUploads', (abortSignal) =>
        this.#client.send(command, { abortSignal }),
      );
      for (const { Key: key = '', UploadId: upload = '' } of page.Uploads ?? [])
        yield { name: key.slice(this.prefix.length), upload };
      key = page.NextKeyMarker;
      id = page.NextUploadIdMarker;
      if (!page.IsTruncated || !key) return;
    }
  }

  /** @throws Error in words for the operator if there is no such bucket, or a rule of its own takes our bytes away. */
  async check(): Promise<void> {
    try {
      // Unlike HEAD, this says what is wrong.
      for await (const _ of this.names('', 1)) break;
    } catch (cause) {
      if (cause instanceof S3Error && cause.code === 'NoSuchBucket')
        throw new Error(`there is no bucket ${this.#bucket} at this S3 endpoint`, { cause });
      throw new Error(`the bucket ${this.#bucket} can't be used: ${(cause as Error).message}`, { cause });
    }
    const command = new GetBucketLifecycleConfigurationCommand({ Bucket: this.#bucket });
    const rules = await this.#repeat('GetBucketLifecycle', async (abortSignal) => {
      try {
        return (await this.#client.send(command, { abortSignal })).Rules ?? [];
      } catch (error) {
        if ((error as Error).name === 'NoSuchLifecycleConfiguration') return [];
        throw error;
      }
    });
    for (const rule of rules) {
      const harm = harmOf(rule, this.prefix);
      if (harm)
        throw new Error(
          `a lifecycle rule of the bucket ${this.#bucket} (${rule.ID ?? 'without a name'}) ${harm}: remove it, or keep it to other names than those of the registry, which begin with "${this.prefix}"`,
        );
    }
  }

  #at(name: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.prefix + name };
  }

  async #repeat<T>(
    operation: string,
    run: (signal: AbortSignal) => Promise<T>,
    bytes = 0,
    signal?: AbortSignal,
  ): Promise<T> {
    const limitMs = this.limitMs + bytes / SLOWEST_BYTES_PER_MS;
    return await attempts(operation, { limitMs, patienceMs: 1.5 * limitMs }, run, signal);
  }
}

async function orMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isAnswer(error, 'missing')) return undefined;
    throw error;
  }
}
