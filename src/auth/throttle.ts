import { isIPv6 } from 'node:net';
import { RateLimiterMemory, type RateLimiterRes } from 'rate-limiter-flexible';
import { RegistryError } from '../errors.js';

export interface ThrottleOptions {
  /** Failed attempts a minute of one address. */
  readonly perAddress: number;
  /** Failed attempts a minute of one address with one key, or with tokens of one issuer. */
  readonly perKey: number;
}

const WINDOW_SECONDS = 60;

/**
 * Slows whoever guesses keys or forges tokens: by address, and by address and key, but never by key alone, or anybody
 * could lock a key's holder out. Counts in this process alone.
 */
export class Throttle {
  readonly #byAddress: RateLimiterMemory;
  readonly #byKey: RateLimiterMemory;
  #failures = 0;
  #refused = 0;

  constructor({ perAddress, perKey }: ThrottleOptions) {
    this.#byAddress = new RateLimiterMemory({ points: perAddress, duration: WINDOW_SECONDS });
    this.#byKey = new RateLimiterMemory({ points: perKey, duration: WINDOW_SECONDS });
  }

  /** Attempts that failed, of any kind. */
  get failures(): number {
    return this.#failures;
  }

  /** Attempts that were answered 429. */
  get refused(): number {
    return this.#refused;
  }

  /** @throws 'TooManyRequests' to an address that has failed too often, also with other keys or only with this one. */
  async refuseGuesser(address: string, key: string): Promise<void> {
    const retryAfter = await this.wait(address, key);
    if (retryAfter !== undefined) throw this.#tooMany(retryAfter);
  }

  /** Counts an attempt that failed. @returns what it is answered: `failure`, or 'TooManyRequests' after too many. */
  async failed(address: string, key: string, failure: RegistryError): Promise<RegistryError> {
    const retryAfter = await this.count(address, key);
    if (retryAfter !== undefined) return this.#tooMany(retryAfter);
    this.#failures += 1;
    return failure;
  }

  /** After how many seconds an attempt may be made, if not now. Counts nothing: who is right has guessed nothing. */
  async wait(address: string, key: string): Promise<number | undefined> {
    const network = networkOf(address);
    return (await left(this.#byAddress, network)) ?? (await left(this.#byKey, `${network} ${key}`));
  }

  /** Counts an attempt that failed, unless there were too many before. @returns as `wait`, if so. */
  async count(address: string, key: string): Promise<number | undefined> {
    const network = networkOf(address);
    // The address first: who has used that up adds nothing to what is remembered, whatever keys are named.
    const ofAddress = await take(this.#byAddress, network);
    if (ofAddress !== undefined) return seconds(ofAddress);
    const ofKey = await take(this.#byKey, `${network} ${key}`);
    if (ofKey === undefined) return undefined;
    // A client that repeats one wrong key uses up its own allowance and not that of all behind its address.
    await this.#byAddress.reward(network);
    return seconds(ofKey);
  }

  #tooMany(retryAfter: number): RegistryError {
    this.#refused += 1;
    return new RegistryError('TooManyRequests', 'too many failed attempts from this address', { retryAfter });
  }
}

/** What one customer of a provider has: an IPv4 address or an IPv6 network of /64. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:([0-9.]+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !isIPv6(address)) return mapped ?? address;
  const [head = '', tail] = (address.split('%')[0] ?? '').toLowerCase().split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const missing = tail === undefined ? 0 : 8 - before.length - after.length;
  const groups = [...before, ...Array<string>(Math.max(missing, 0)).fill('0'), ...after];
  return `${groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}

/** After how many seconds there is a point, if there is none now. */
async function left(limiter: RateLimiterMemory, key: string): Promise<number | undefined> {
  const spent = await limiter.get(key);
  return spent && spent.consumedPoints >= limiter.points ? seconds(spent.msBeforeNext) : undefined;
}

/** Takes a point, or tells after how many milliseconds there is one. What is refused takes none: it tried nothing. */
async function take(limiter: RateLimiterMemory, key: string): Promise<number | undefined> {
  try {
    await limiter.consume(key);
    return undefined;
  } catch (refused) {
    if (refused instanceof Error) throw refused;
    await limiter.reward(key);
    return (refused as RateLimiterRes).msBeforeNext;
  }
}

function seconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000));
}
