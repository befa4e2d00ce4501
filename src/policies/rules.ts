import { matches } from '../auth/grants.js';
import { fitsWildcard } from '../auth/wildcard.js';
import { keepOf, type Retention, type RetentionRule } from './retention.js';

/** What becomes of manifests without a tag: kept for ever, or collected when they are so many days old. */
export type Untagged = { readonly keep: true } | { readonly days: number };

/** What is said of the repositories that a pattern matches. */
export interface Policy {
  readonly id: string;
  readonly pattern: string;
  /** Null: nothing is said of them. */
  readonly untagged: Untagged | null;
  /** Null: nothing is said of releases. */
  readonly retention: Retention | null;
  /** Patterns of tags that only admins may move or remove; `*` stands for any characters. */
  readonly protectedTags: readonly string[];
  /** What all repositories of the pattern may hold together; null: as much as they like. */
  readonly quotaBytes: number | null;
  /** What they are charged, as of the last count. */
  readonly usedBytes: number;
}

/** Which policy protects a tag. */
export interface Protection {
  /** Of repositories. */
  readonly pattern: string;
  /** Of tags. */
  readonly tagPattern: string;
}

/** A quota, and how much of it is used. */
export interface Quota {
  readonly pattern: string;
  readonly limitBytes: number;
  readonly usedBytes: number;
}

/** A policy that is only thought of. */
const NEW: Omit<Policy, 'pattern'> = {
  id: '00000000-0000-0000-0000-000000000000',
  untagged: null,
  retention: null,
  protectedTags: [],
  quotaBytes: null,
  usedBytes: 0,
};

/** What all policies together come to, as of one moment. */
export class Policies {
  /** The most specific pattern first: names, then the longest. */
  readonly #policies: readonly Policy[];

  constructor(policies: readonly Policy[]) {
    const isName = (policy: Policy) => !policy.pattern.includes('*');
    this.#policies = [...policies].sort(
      (one, other) =>
        Number(isName(other)) - Number(isName(one)) ||
        other.pattern.length - one.pattern.length ||
        (one.pattern < other.pattern ? -1 : 1),
    );
  }

  /** What the most specific policy that says anything of them says of a repository's manifests without a tag. */
  untaggedOf(repository: string): Untagged | undefined {
    return this.#of(repository).find(({ untagged }) => untagged !== null)?.untagged ?? undefined;
  }

  /** What keeps a repository's releases by the most specific policy that says anything of them; undefined: all are kept. */
  retentionOf(repository: string): RetentionRule | undefined {
    for (const { id, pattern, retention } of this.#of(repository)) {
      if (retention === null) continue;
      const keep = keepOf(retention);
      return keep && { keep, by: { policy_id: id, pattern } };
    }
    return undefined;
  }

  /** These policies, if the one of a pattern said this of releases. */
  withRetention(pattern: string, retention: Retention | null): Policies {
    const now = this.#policies.find((policy) => policy.pattern === pattern);
    const others = this.#policies.filter((policy) => policy !== now);
    return new Policies([...others, { ...(now ?? NEW), pattern, retention }]);
  }

  /** What protects a tag, if anything does: any policy that matches may. */
  protectionOf(repository: string, tag: string): Protection | undefined {
    for (const { pattern, protectedTags } of this.#of(repository)) {
      const tagPattern = protectedTags.find((wanted) => fitsWildcard(wanted, tag));
      if (tagPattern !== undefined) return { pattern, tagPattern };
    }
    return undefined;
  }

  /** Every quota that a repository is counted in. */
  quotasOf(repository: string): Quota[] {
    return this.#of(repository).flatMap(quotaOf);
  }

  /** All quotas, those of names first. */
  get quotas(): Quota[] {
    return this.#policies.flatMap(quotaOf);
  }

  #of(repository: string): Policy[] {
    return this.#policies.filter(({ pattern }) => matches(pattern, repository));
  }
}

function quotaOf({ pattern, quotaBytes, usedBytes }: Policy): Quota[] {
  return quotaBytes === null ? [] : [{ pattern, limitBytes: quotaBytes, usedBytes }];
}

/**
 * A pattern of repositories as a regular expression of PostgreSQL, for sums over all that it matches; names have no empty
 * parts. A test compares it with `matches`.
 */
export function regexOf(pattern: string): string {
  const parts = pattern.split('/');
  const text = parts
    .map((part, index) => {
      const last = index === parts.length - 1;
      if (part === '**') return last ? '[^/]+(/[^/]+)*' : '([^/]+/)*';
      return `${part.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}${last ? '' : '/'}`;
    })
    .join('');
  return `^${text}$`;
}
