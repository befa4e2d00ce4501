import type { Actor } from '../actor.js';
import type { Config } from '../config.js';
import type { Database } from '../database/connect.js';
import { Healer } from '../gc/healer.js';
import { Inspector } from '../gc/inspector.js';
import { Pace } from '../gc/pace.js';
import { type ScrubObserver, Scrubber } from '../gc/scrubber.js';
import type { Log } from '../log.js';
import { auditChanges } from '../metadata/audit.js';
import { type HealingSource, recordBy } from '../registry/changes.js';
import type { SegmentStore } from '../storage/segment-store.js';

/** Told of all that a scrubber does. */
export interface ScrubbingObserver extends ScrubObserver {
  healed(source: HealingSource): void;
}

export interface ScrubbingOptions {
  readonly config: Config;
  readonly database: Database;
  readonly store: SegmentStore;
  readonly second: SegmentStore | undefined;
  readonly log: Log;
  /** Who is written down as the one who quarantines and heals. */
  readonly actor: Actor;
  /** Whether bytes are read and hashed. */
  readonly deep: boolean;
  readonly observer: ScrubbingObserver;
}

/** A scrubber as the settings want it. */
export function scrubberOf(options: ScrubbingOptions): Scrubber {
  const { config, observer, deep, second, ...rest } = options;
  const shared = { ...rest, pause: () => undefined, observers: [recordBy(auditChanges)] };
  const healer = new Healer({
    ...shared,
    second,
    bytesPerSecond: config.scrubRate,
    readGraceSeconds: config.readGrace,
    healed: (source) => observer.healed(source),
  });
  const inspector = new Inspector({
    ...shared,
    deep,
    healer,
    bytes: new Pace(config.scrubRate),
    objects: new Pace(config.scrubObjects),
    passed: (bytes) => observer.read(bytes),
  });
  return new Scrubber({ ...rest, inspector, observer });
}
