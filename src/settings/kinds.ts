import { BlockList, isIP } from 'node:net';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const TiB = 1024 * 1024 * MiB;
export const DAY = 24 * 60 * 60;

/** One setting: its environment variable, default, unit, what it is for, and how its text becomes a value. */
export interface Setting<T> {
  readonly name: string;
  readonly fallback: string;
  readonly unit: string;
  readonly about: string;
  parse(text: string): T;
}

/** What is wrong with a value, in words that follow the setting's name. */
export class Fault extends Error {}

export function text(name: string, fallback: string, about: string, pattern?: RegExp, wanted = ''): Setting<string> {
  const parse = (value: string) => {
    if (pattern && !pattern.test(value)) throw new Fault(`must be ${wanted}`);
    return value;
  };
  return { name, fallback, unit: 'text', about, parse };
}

export function integer(name: string, fallback: number, unit: string, min: number, max: number, about: string) {
  const parse = (value: string) => {
    const number = Number(value);
    if (!/^[0-9]+$/.test(value) || !Number.isSafeInteger(number) || number < min || number > max) {
      throw new Fault(`must be a whole number (${unit}) from ${min} to ${max}, not ${JSON.stringify(value)}`);
    }
    return number;
  };
  return { name, fallback: String(fallback), unit, about, parse } satisfies Setting<number>;
}

/** The least number of bytes for something to be done; `never` is infinite, `always` 0. */
export function threshold(name: string, about: string): Setting<number> {
  const parse = (value: string) => {
    if (value === 'never') return Number.POSITIVE_INFINITY;
    const number = value === 'always' ? 0 : Number(value);
    if (!/^([0-9]+|always)$/.test(value) || !Number.isSafeInteger(number))
      throw new Fault(`must be always, never or a number of bytes, not ${JSON.stringify(value)}`);
    return number;
  };
  return { name, fallback: 'never', unit: 'never, always or bytes', about, parse };
}

/** A time after which something is done; `never` is infinite. */
export function age(name: string, fallback: number, about: string): Setting<number> {
  const { parse: seconds } = integer(name, fallback, 'seconds, or never', 0, 100 * 365 * DAY, about);
  const parse = (value: string) => (value === 'never' ? Number.POSITIVE_INFINITY : seconds(value));
  return { name, fallback: String(fallback), unit: 'seconds, or never', about, parse };
}

export function address(name: string, fallback: string, about: string): Setting<{ host: string; port: number }> {
  const parse = (value: string) => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):([0-9]{1,5})$/.exec(value);
    const port = Number(match?.[3]);
    if (!match || port > 65535) throw new Fault(`must be host:port, not ${JSON.stringify(value)}`);
    return { host: match[1] ?? match[2] ?? '', port };
  };
  return { name, fallback, unit: 'host:port', about, parse };
}

/** An address that may be left out: then undefined. */
export function optionalAddress(name: string, about: string): Setting<{ host: string; port: number } | undefined> {
  const { unit, parse } = address(name, '', about);
  return { name, fallback: '', unit, about, parse: (value) => (value === '' ? undefined : parse(value)) };
}

/** One word of several. */
export function choice<const Word extends string>(
  name: string,
  words: readonly [Word, ...Word[]],
  about: string,
): Setting<Word> {
  const parse = (value: string) => {
    const word = words.find((known) => known === value);
    if (word === undefined) throw new Fault(`must be one of ${words.join(', ')}`);
    return word;
  };
  return { name, fallback: words[0], unit: words.join(', '), about, parse };
}

/** Words, separated by commas; those who use them know which are right. */
export function list(name: string, unit: string, about: string): Setting<readonly string[]> {
  const parse = (value: string) => {
    const words = value.split(',').map((word) => word.trim());
    return words.filter((word) => word !== '');
  };
  return { name, fallback: '', unit: `${unit}, by commas`, about, parse };
}

/** Addresses and networks, separated by commas. */
export function networks(name: string, about: string): Setting<BlockList> {
  const parse = (value: string) => {
    const list = new BlockList();
    for (const part of value.split(',').map((text) => text.trim())) {
      if (part === '') continue;
      const [, base = '', length] = /^([0-9a-fA-F.:]+)(?:\/([0-9]{1,3}))?$/.exec(part) ?? [];
      const family = isIP(base);
      const bits = family === 6 ? 128 : 32;
      if (family === 0 || Number(length ?? bits) > bits)
        throw new Fault(`must be addresses or networks such as 10.0.0.0/8, not ${JSON.stringify(part)}`);
      list.addSubnet(base, Number(length ?? bits), family === 6 ? 'ipv6' : 'ipv4');
    }
    return list;
  };
  return { name, fallback: '', unit: 'addresses or networks, by commas', about, parse };
}

/** The address of a site, without a path. */
export function origin(name: string, about: string): Setting<string> {
  const parse = (value: string) => {
    if (value === '') return '';
    const url = URL.canParse(value) ? new URL(value) : undefined;
    if (!url || !/^https?:$/.test(url.protocol) || url.href !== `${url.origin}/`)
      throw new Fault('must be like https://registry.example.com, without a path');
    return url.origin;
  };
  return { name, fallback: '', unit: 'URL', about, parse };
}

/** Addresses of sites, separated by commas, or `*` for all. */
export function origins(name: string, about: string): Setting<readonly string[]> {
  const one = origin(name, about);
  const parse = (value: string) => {
    const parts = value.split(',').map((part) => part.trim());
    return parts.filter((part) => part !== '').map((part) => (part === '*' ? part : one.parse(part)));
  };
  return { name, fallback: '', unit: 'URLs, by commas, or *', about, parse };
}
