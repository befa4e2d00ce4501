import type { Config } from '../config.js';
import { IS_LIVE } from '../metadata/live.js';
import type { JudgeOptions } from '../policies/retention-judge.js';
import { readTag } from '../weights/tag.js';

/** How rules judge releases, for the job that removes them and for whoever asks before. */
export function judgeOptions(config: Config): JudgeOptions {
  return {
    isLive: IS_LIVE,
    isAlias: (tag) => readTag(tag).kind === 'alias',
    newSeconds: config.retentionNew,
  };
}
