import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, stat, unlink } from 'node:fs/promises';
import { createConnection, createServer, type Server } from 'node:net';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { aliasFolder, openDataFolder } from './embedded-folders.js';

/** The right to use a data folder; the operating system takes it back when the process ends, however it ends. */
export interface DataFolderLock {
  release(): Promise<void>;
}

/*
 * Why sockets: Node has no flock, and a file with a pid is fooled by a pid that was given away or that belongs to another
 * container. A listening Unix socket in the folder is alive exactly as long as its process, on Linux and macOS, and is
 * found by its inode, so also from other containers of the same machine. (Another machine that shares the folder over
 * the network can't be seen by it: see embedded-lease.ts.)
 *
 * Each starter listens on a socket of its own, under a random name that is never used again. So what refuses a
 * connection is dead for ever, and removing it harms nobody: there is no stale file to fight over. It gets its name by a
 * rename after it listens, so no living socket ever refuses. Among living ones:
 *   a holder is found               -> we lose
 *   a candidate with a lower name   -> we lose
 *   a candidate with a higher name  -> we wait until it holds or is gone (it may have looked before we were there)
 *   none                            -> we hold
 * Of two that live at once, at least one looked after the other had its name. If the lower looked later, it waits for the
 * higher's decision; if the higher looked later, it gives way. So two never hold, and the lowest of all that come
 * together loses to a holder only.
 */
const FOLDER = 'lock';
const DRAFT = '.';
const NAME_BYTES = 8;
const ANSWER_MS = 2_000;
const PATIENCE_MS = 10_000;
const DRAFT_LIFETIME_MS = 60_000;

interface Answer {
  readonly pid: number;
  readonly host: string;
  readonly state: 'candidate' | 'holder';
}

/**
 * Locks a data folder for this process, making it where there is none.
 *
 * @throws Error naming the process that holds it; the system's error if the folder can't be used, for instance on a
 *   file system without sockets
 */
export async function lockDataFolder(dataDir: string): Promise<DataFolderLock> {
  const folder = await openLockFolder(dataDir);
  const alias = await aliasFolder(folder, `${DRAFT}${'0'.repeat(NAME_BYTES * 2)}`);
  const name = randomBytes(NAME_BYTES).toString('hex');
  const own: { state: Answer['state'] } = { state: 'candidate' };
  let server: Server | undefined;
  const release = async () => {
    await unlink(join(folder, name)).catch(() => undefined);
    await new Promise<void>((done) => (server === undefined ? done() : server.close(() => done())));
  };
  try {
    server = await listen(join(alias.path, `${DRAFT}${name}`), own);
    await rename(join(folder, `${DRAFT}${name}`), join(folder, name));
    const winner = await findWinner(folder, alias.path, name);
    if (winner !== undefined) throw new Error(describe(dataDir, winner));
    own.state = 'holder';
    return { release };
  } catch (error) {
    await release();
    throw error;
  } finally {
    await alias.remove();
  }
}

async function openLockFolder(dataDir: string): Promise<string> {
  const folder = join(await openDataFolder(dataDir), FOLDER);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return folder;
}

function listen(path: string, own: { readonly state: Answer['state'] }): Promise<Server> {
  return new Promise((done, fail) => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.unref();
      const answer: Answer = { pid: process.pid, host: hostname(), state: own.state };
      socket.end(JSON.stringify(answer));
    });
    server.once('error', fail);
    server.listen(path, () => {
      server.off('error', fail);
      server.on('error', () => undefined);
      // Holding a lock is no reason to live on.
      server.unref();
      done(server);
    });
  });
}

// Undefined if we may hold; else who does, or is about to.
async function findWinner(folder: string, alias: string, own: string): Promise<Answer | 'silent' | undefined> {
  const began = performance.now();
  for (;;) {
    let wait = false;
    for (const name of await readdir(folder)) {
      if (name === own) continue;
      if (name.startsWith(DRAFT)) {
        await removeOldDraft(join(folder, name));
        continue;
      }
      const answer = await ask(join(alias, name));
      if (answer === 'dead') await unlink(join(folder, name)).catch(() => undefined);
      else if (answer === 'leaving') wait = true;
      else if (answer === 'silent' || answer.state === 'holder' || name < own) return answer;
      else wait = true;
    }
    if (!wait) return undefined;
    if (performance.now() - began > PATIENCE_MS) return 'silent';
    await sleep(5);
  }
}

// Left by a starter that was killed between two system calls.
async function removeOldDraft(path: string): Promise<void> {
  const status = await stat(path).catch(() => undefined);
  if (status !== undefined && Date.now() - status.mtimeMs > DRAFT_LIFETIME_MS)
    await unlink(path).catch(() => undefined);
}

/**
 * `silent` is alive but does not answer: stopped, overloaded, or another user's. `leaving` hung up on us, as one does
 * that ends just now: asked again, it is dead.
 */
function ask(path: string): Promise<Answer | 'dead' | 'silent' | 'leaving'> {
  return new Promise((done) => {
    let text = '';
    const socket = createConnection(path);
    const end = (answer: Answer | 'dead' | 'silent' | 'leaving') => {
      socket.destroy();
      done(answer);
    };
    socket.setTimeout(ANSWER_MS, () => end('silent'));
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      if (code === 'ECONNREFUSED' || code === 'ENOENT') end('dead');
      else end(code === 'ECONNRESET' || code === 'EPIPE' ? 'leaving' : 'silent');
    });
    socket.on('close', () => end(parse(text) ?? 'leaving'));
  });
}

function parse(text: string): Answer | undefined {
  try {
    return JSON.parse(text) as Answer;
  } catch {
    return undefined;
  }
}

function describe(dataDir: string, winner: Answer | 'silent'): string {
  const who = winner === 'silent' ? 'a process that does not answer' : `the process ${winner.pid} on ${winner.host}`;
  return `The data folder ${resolve(dataDir)} is in use by another registry: ${who}. Stop it first, or choose another REGISTRY_DATA_DIR.`;
}
