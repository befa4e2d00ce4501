import { userInfo } from 'node:os';

/** Who makes a change, from where, in which request. */
export interface Actor {
  /** The key's id. */
  readonly key: string;
  /** The key's name, as it is now. */
  readonly name: string;
  readonly address: string;
  /** What the client calls itself, cut to MAX_USER_AGENT characters; empty: it does not say. */
  readonly userAgent: string;
  readonly requestId: string;
  /** Whether it may change the registry as a whole; undefined: the registry itself, or whoever has its machine. */
  readonly admin?: boolean;
}

export const MAX_USER_AGENT = 512;

/** Somebody on the registry's own machine, who changes something by a command: the account's name is theirs. */
export function localActor(): Actor {
  return { key: 'local', name: accountName(), address: '', userAgent: '', requestId: '' };
}

/** A job of the registry itself, such as `scrub`. */
export function backgroundActor(job: string): Actor {
  return { key: job, name: 'the registry itself', address: '', userAgent: '', requestId: '' };
}

function accountName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container may run under a number that no account has.
    return String(process.getuid?.() ?? '');
  }
}
