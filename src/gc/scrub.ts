import type { Database } from '../database/connect.js';
import type { Log } from '../log.js';
import type { Job } from './jobs.js';
import { wrongManifests } from './manifest-digests.js';
import { type Pass, Passes, PassLost } from './scrub-passes.js';
import type { Scrubber } from './scrubber.js';

export interface ScrubOptions {
  readonly database: Database;
  readonly log: Log;
  readonly scrubber: Scrubber;
  readonly everyMs: number;
  /** From the start of a pass to that of the next, in days. */
  readonly everyDays: number;
}

/** Reads and hashes everything every so many days, a step at a time, and goes on where whoever died was (decision 0027). */
export function scrubJob({ database, log, scrubber, everyMs, everyDays }: ScrubOptions): Job {
  const passes = new Passes(database, 'background');
  const run = async (stopping = new AbortController().signal): Promise<boolean> => {
    if (!(await passes.isDue(everyDays))) return false;
    const pass = await passes.take();
    if (!pass) return false;
    try {
      const whole = await advance(passes, pass, scrubber, stopping);
      if (whole === undefined) return true;
      const faults = await manifestFaults(database, log);
      const { blobs, bytes, ...others } = await passes.finish(pass, faults);
      log.info(
        { blobs, bytes, faults: others.faults, healed: others.healed, unread: others.unread },
        'all was scrubbed',
      );
      return false;
    } catch (error) {
      if (error instanceof PassLost || stopping.aborted) return false;
      throw error;
    }
  };
  return { name: 'scrub', everyMs, run };
}

/**
 * Does a step of a pass and writes down how far it got, also when it was broken off.
 * @returns the pass if there is nothing left in it. @throws PassLost; what broke the step off
 */
export async function advance(
  passes: Passes,
  pass: Pass,
  scrubber: Scrubber,
  signal: AbortSignal,
): Promise<Pass | undefined> {
  const { at, counts, failure } = await scrubber.step(pass.at, signal);
  if (at !== undefined) await passes.advance(pass, at, counts);
  if (failure !== undefined) throw failure;
  return at === undefined ? pass : undefined;
}

/** Says of each manifest whose payload is wrong so in the log. @returns how many there are. */
async function manifestFaults(database: Database, log: Log): Promise<number> {
  let faults = 0;
  for await (const fault of wrongManifests(database)) {
    faults += 1;
    log.error({ ...fault }, 'the payload of a manifest is not what its digest says');
  }
  return faults;
}
