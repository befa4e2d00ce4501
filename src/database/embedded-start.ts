import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log.js';
import type { Account } from './embedded-account.js';
import { FINGERPRINT, NAME, readSystemIdentifier } from './embedded-cluster.js';
import { removeAlias } from './embedded-folders.js';
import type { Place } from './embedded-place.js';
import type { Programs } from './embedded-programs.js';
import { answers, isTransient, makeDatabase, query } from './embedded-query.js';
import {
  adoptServer,
  isServer,
  readPidFile,
  removeTraces,
  type Server,
  type ServerExit,
  startServer,
  stopServer,
} from './embedded-server.js';

// A server that answers nothing is given up after this; one that says that it recovers may take long.
const SILENCE_MS = 60_000;
const RECOVERY_MS = 30 * 60_000;
const ADOPTION_MS = 10_000;
// Backends of a killed postmaster hold its shared memory until they notice.
const ORPHANS_MS = 15_000;

/** What a server is started with. */
export interface Start {
  readonly place: Place;
  readonly programs: Programs;
  readonly account: Account;
  readonly settings: Record<string, string>;
  readonly socketFolder: string;
  readonly log: Log;
}

/**
 * Takes a server over that outlived its registry, or starts one and waits until it answers.
 * @throws Error in words for the operator when it does not
 */
export async function adoptOrStart(start: Start): Promise<{ server: Server; adopted: boolean }> {
  const began = performance.now();
  let disturbed = false;
  for (;;) {
    const left = await takeOver(start);
    if (left.server !== undefined) return { server: left.server, adopted: true };
    disturbed ||= left.traces;
    const server = startServer(
      start.place,
      start.programs,
      start.account,
      start.socketFolder,
      start.settings,
      start.log,
    );
    const fault = await waitUntilReady(server, start);
    if (fault === undefined) return { server, adopted: false };
    // Another of ours may have been about to start (its registry was killed just before), or orphans hold the memory.
    const rival = await readPidFile(start.place);
    const retry = disturbed || (rival !== undefined && (await isServer(rival.pid, start.place)));
    if (!retry || performance.now() - began > ORPHANS_MS) throw fault;
    await sleep(100);
  }
}

// Finds a server that runs already: takes it over if it is as we want it, else stops it.
async function takeOver(start: Start): Promise<{ server?: Server; traces: boolean }> {
  const { place, log } = start;
  const file = await readPidFile(place);
  if (file === undefined || !(await isServer(file.pid, place))) {
    // Over a shared volume a server of another container is seen by its socket, not by its pid.
    if (await answers(start.socketFolder)) {
      throw new Error(
        `Another PostgreSQL (pid ${file?.pid ?? 'unknown'} in its container) serves ${place.cluster}: stop it first.`,
      );
    }
    // A server that is about to start may be writing just now.
    if (file?.pid === 0) await sleep(200);
    if (file !== undefined && (await readPidFile(place))?.pid === file.pid) await removeTraces(place);
    if (file !== undefined && file.socketFolder !== start.socketFolder) await removeAlias(file.socketFolder);
    return { traces: file !== undefined };
  }
  const server = adoptServer(file.pid, place);
  const fingerprint = await askFingerprint(server, start);
  if (fingerprint === start.settings[FINGERPRINT]) {
    if (file.socketFolder !== start.socketFolder) await removeAlias(file.socketFolder);
    return { server, traces: true };
  }
  const answered = fingerprint !== undefined;
  log.warn({ postgres: file.pid, answered }, 'stopping a PostgreSQL that was left over and is not as it should be');
  await stopServer(server, place, answered ? 20_000 : 5_000);
  return { traces: true };
}

// Asks a running server what it was started with; undefined if it is not the one of this cluster or does not answer.
async function askFingerprint(server: Server, { place, socketFolder }: Start): Promise<string | undefined> {
  const identifier = await readSystemIdentifier(place);
  const began = performance.now();
  for (;;) {
    const status = (await readPidFile(place))?.status;
    const limit = status === 'starting' ? RECOVERY_MS : ADOPTION_MS;
    if (performance.now() - began > limit || status === 'stopping' || !(await isServer(server.pid, place)))
      return undefined;
    try {
      const rows = await query(
        socketFolder,
        NAME,
        `select system_identifier::text as identifier, current_setting('${FINGERPRINT}', true) as fingerprint from pg_control_system()`,
      );
      const { identifier: theirs, fingerprint } = rows[0] as { identifier: string; fingerprint: string | null };
      return theirs === identifier ? (fingerprint ?? '') : undefined;
    } catch (error) {
      if (!isTransient(error)) return undefined;
      await sleep(20);
    }
  }
}

// Waits until a started server answers; returns why it doesn't.
async function waitUntilReady(server: Server, { place, socketFolder, log }: Start): Promise<Error | undefined> {
  let exit: ServerExit | undefined;
  void server.ended.then((how) => {
    exit = how;
  });
  const began = performance.now();
  let told = began;
  let fresh = !place.initialized;
  for (;;) {
    const file = await readPidFile(place);
    const status = file?.pid === server.pid ? file.status : '';
    let fault: unknown;
    if (status === 'ready') {
      try {
        if (fresh) await makeDatabase(socketFolder);
        fresh = false;
        await query(socketFolder, NAME, 'select 1');
        return undefined;
      } catch (error) {
        fault = error;
        // We were killed between initdb and here.
        fresh = (error as { code?: unknown }).code === '3D000';
        if (fresh) continue;
      }
    }
    if (exit !== undefined) {
      await sleep(50); // for its last words
      return new Error(`PostgreSQL did not start (${exit.signal ?? exit.code}): ${server.lastMessages()}`);
    }
    const now = performance.now();
    const limit = status === 'starting' ? RECOVERY_MS : SILENCE_MS;
    if ((fault !== undefined && !isTransient(fault)) || now - began > limit) {
      await stopServer(server, place, 20_000);
      return new Error(`PostgreSQL does not answer: ${server.lastMessages()}`, { cause: fault });
    }
    if (status === 'starting' && now - told > 5_000) {
      told = now;
      log.info({ seconds: Math.round((now - began) / 1000) }, 'PostgreSQL recovers from a crash');
    }
    await sleep(10);
  }
}
