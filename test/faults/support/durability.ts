import { dirname } from 'node:path';
import { type Statement, statementsOf } from './statements.js';
import { bytesOf, type Call, targetOf } from './trace.js';

const KEY = /\/([0-9a-f-]{36})\.\d+\.[0-9a-f]{16}$/;

/** A segment's file: which bytes were written, and which of them a sync has covered since. */
interface File {
  readonly path: string;
  /** Where its first byte lies in the upload. */
  readonly base: number;
  readonly written: { start: number; end: number; done: number; durable: boolean }[];
  named: boolean;
}

interface Upload {
  readonly files: File[];
  /** The offset that its row was last given. */
  offset: number;
  committed: boolean;
}

interface Claim {
  readonly upload: string;
  readonly size: number;
}

/**
 * Checks what a worker did against the rule: data synced, then the folder, then the row, then the answer. An upload's
 * offset that PostgreSQL is told to keep, or that a client is told, must be durable before it is sent; a 201 comes after
 * PostgreSQL has confirmed the commit.
 * @param names the prepared statements of the process, from an earlier trace of it; those of this one are added.
 * @returns the faults, in words.
 */
export function checkDurability(calls: readonly Call[], names = new Map<string, string>()): string[] {
  const checker = new Checker(names);
  const moments = calls.flatMap((call) => [
    { at: call.begin, run: () => checker.begin(call) },
    { at: call.end, run: () => checker.end(call) },
  ]);
  // A call that nothing interrupted begins and ends on one line, in this order.
  for (const { run } of moments.sort((one, other) => one.at - other.at)) run();
  return checker.faults;
}

class Checker {
  readonly faults: string[] = [];
  readonly #uploads = new Map<string, Upload>();
  readonly #names: Map<string, string>;
  /** The request that each connection is at. */
  readonly #requests = new Map<string, string>();
  /** What each connection to PostgreSQL has claimed in the transaction that it is in. */
  readonly #open = new Map<string, { claims: Claim[]; commits: string[]; sent: boolean }>();

  constructor(names: Map<string, string>) {
    this.#names = names;
  }

  #upload(id: string): Upload {
    const known = this.#uploads.get(id);
    if (known) return known;
    const upload = { files: [], offset: 0, committed: false };
    this.#uploads.set(id, upload);
    return upload;
  }

  #file(path: string): File | undefined {
    const id = KEY.exec(path)?.[1];
    return id === undefined ? undefined : this.#upload(id).files.find((file) => file.path === path);
  }

  begin(call: Call): void {
    const target = targetOf(call);
    if (!/^(write|writev|sendto|sendmsg)$/.test(call.name) || KEY.test(target)) return;
    const bytes = bytesOf(call);
    const head = bytes.toString('latin1');
    if (/^HTTP\/1\.1 \d/.test(head)) this.#answer(target, head);
    else if (/^(UNIX|TCP)/.test(target) && /^[PBQ]\0/.test(head)) this.#run(target, statementsOf(bytes, this.#names));
  }

  end(call: Call): void {
    const target = targetOf(call);
    if (call.name === 'openat' && call.args.includes('O_CREAT') && call.result >= 0) this.#create(call);
    else if (/^(pwrite64|pwritev)$/.test(call.name)) this.#write(call, this.#file(target));
    else if (/^(fsync|fdatasync)$/.test(call.name) && call.result === 0) this.#sync(call, target);
    else if (/^(read|recvfrom|recvmsg)$/.test(call.name)) this.#read(target, bytesOf(call).toString('latin1'));
  }

  #create(call: Call): void {
    const path = /"([^"]+)"/.exec(call.args)?.[1] ?? '';
    const id = KEY.exec(path)?.[1];
    if (id === undefined) return;
    const upload = this.#upload(id);
    upload.files.push({ path, base: upload.offset, written: [], named: false });
  }

  #write(call: Call, file: File | undefined): void {
    const start = Number(/, (\d+)$/.exec(call.args)?.[1]);
    if (file && call.result > 0) file.written.push({ start, end: start + call.result, done: call.end, durable: false });
  }

  /** Covers what was written before it began; a folder's sync covers the names that were in it by then. */
  #sync(call: Call, target: string): void {
    for (const piece of this.#file(target)?.written ?? []) piece.durable ||= piece.done <= call.begin;
    for (const { files } of this.#uploads.values())
      for (const file of files) if (dirname(file.path) === target) file.named = true;
  }

  #durable({ files, offset }: Upload): number {
    const file = files.at(-1);
    if (!file) return offset;
    if (!file.named) return file.base;
    let length = 0;
    for (const piece of [...file.written].sort((one, other) => one.start - other.start))
      if (piece.durable && piece.start <= length) length = Math.max(length, piece.end);
    return file.base + length;
  }

  #claim({ upload: id, size }: Claim, what: string): void {
    const upload = this.#upload(id);
    const durable = Math.max(this.#durable(upload), this.#lastBase(upload));
    if (size > durable) this.faults.push(`${what} names ${size} bytes of ${id}, of which ${durable} are durable`);
  }

  /** What was vouched for before the last segment began. */
  #lastBase({ files }: Upload): number {
    return files.at(-1)?.base ?? 0;
  }

  #run(connection: string, statements: readonly Statement[]): void {
    for (const { text, values } of statements) {
      const value = (pattern: RegExp) => values[Number(pattern.exec(text)?.[1]) - 1];
      if (text === 'begin') this.#open.set(connection, { claims: [], commits: [], sent: false });
      const open = this.#open.get(connection);
      if (/update uploads/.test(text) && /"offset" = \$/.test(text)) {
        const claim = { upload: value(/\bid = \$(\d+)/) ?? '', size: Number(value(/"offset" = \$(\d+)/)) };
        if (open) open.claims.push(claim);
        else this.#keep(claim);
        if (/committed_digest = \$/.test(text)) open?.commits.push(claim.upload);
      }
      if (text === 'commit' && open) {
        for (const claim of open.claims) this.#keep(claim);
        open.sent = true;
      }
      if (text === 'rollback') this.#open.delete(connection);
    }
  }

  #keep(claim: Claim): void {
    this.#claim(claim, 'a row');
    this.#upload(claim.upload).offset = claim.size;
  }

  #read(connection: string, bytes: string): void {
    const request = /^(?:GET|PUT|PATCH|POST|DELETE|HEAD) \S+ HTTP\/1\.1\r\n/.exec(bytes);
    if (request) this.#requests.set(connection, request[0]);
    const open = this.#open.get(connection);
    if (!open?.sent || !bytes.includes('COMMIT\0')) return;
    for (const id of open.commits) this.#upload(id).committed = true;
    this.#open.delete(connection);
  }

  #answer(connection: string, head: string): void {
    const status = Number(head.slice(9, 12));
    const id = /\/uploads\/([0-9a-f-]{36})/.exec(this.#requests.get(connection) ?? '')?.[1];
    const offset = /\r\nUpload-Offset: (\d+)\r\n/.exec(head)?.[1];
    if (offset !== undefined && id !== undefined) this.#claim({ upload: id, size: Number(offset) }, `a ${status}`);
    if (status === 201 && id !== undefined && !this.#upload(id).committed)
      this.faults.push(`a 201 for ${id}, whose commit PostgreSQL has not confirmed`);
  }
}
