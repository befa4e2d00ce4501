import type { Manifest } from '../oci/manifest.js';
import {
  type Claims,
  type Subject,
  claimsOfAnnotations,
  claimsOfConfig,
  claimsOfIndex,
  claimsOfNames,
  claimsOfTag,
  subjects,
} from './claims.js';
import { filesOf } from './files.js';
import { type Packaging, packagingOf } from './media-types.js';
import { parseParameterCount } from './parameters.js';
import { isSameQuantization } from './quantization.js';
import type { TagMeaning } from './tag.js';

/** Where a fact comes from, in the order of trust; `content` is the headers of the weights themselves. */
export type FactSource = 'content' | 'config' | 'annotation' | 'filename' | 'tag';

export interface Fact {
  /** As it was written, at most 200 characters. */
  readonly value: string;
  readonly source: FactSource;
  /** What weaker sources say instead. */
  readonly conflict?: readonly { readonly source: FactSource; readonly value: string }[];
}

/** What manifest, config, file names and tag say of a model, as JSON of at most 16 KiB. */
export type Facts = { readonly packaging?: Packaging } & Readonly<Partial<Record<Subject, Fact>>>;

/**
 * Reads what is said of a model. Everything in it is untrusted; what can't be read is left out.
 * @param config the parsed config blob, undefined if it was not read
 */
export function factsOf(manifest: Manifest, config: unknown, tag: TagMeaning): Facts {
  const packaging = packagingOf(manifest);
  const sources: readonly (readonly [FactSource, Claims])[] = [
    ['config', manifest.kind === 'index' ? claimsOfIndex(manifest) : claimsOfConfig(packaging, config)],
    ['annotation', claimsOfAnnotations(manifest)],
    ['filename', claimsOfNames(filesOf(manifest, config))],
    ['tag', claimsOfTag(tag)],
  ];
  const facts: Partial<Record<Subject, Fact>> = {};
  for (const subject of subjects) {
    const fact = decide(subject, sources);
    if (fact) facts[subject] = fact;
  }
  return { ...(packaging && { packaging }), ...facts };
}

/** The strongest source decides; a weaker one contradicts it if nothing that it says is among what the other says. */
function decide(subject: Subject, sources: readonly (readonly [FactSource, Claims])[]): Fact | undefined {
  const [strongest, ...weaker] = sources.flatMap(([source, claims]) => {
    const values = (claims[subject] ?? []).filter((value) => value !== undefined && value !== '') as string[];
    return values[0] === undefined ? [] : [{ source, value: values[0], values }];
  });
  if (!strongest) return undefined;
  const agrees = (value: string): boolean => strongest.values.some((own) => comparisons[subject](own, value));
  const conflict = weaker.filter(({ values }) => !values.some(agrees)).map(({ source, value }) => ({ source, value }));
  const { value, source } = strongest;
  return { value, source, ...(conflict.length > 0 && { conflict }) };
}

type Comparison = (one: string, other: string) => boolean;

const isSameText: Comparison = (one, other) => one.toLowerCase() === other.toLowerCase();

const comparisons: Readonly<Record<Subject, Comparison>> = {
  name: isSameText,
  version: isSameVersion,
  family: isSameText,
  architecture: isSameText,
  parameters: isSameSize,
  quantization: isSameQuantization,
  precision: isSameQuantization,
  format: isSameText,
  license: isSameText,
};

/** Names round: what is called 7B has 7.6 billion parameters, a 1B has 1.24. */
const rounding = 1.35;

function isSameSize(one: string, other: string): boolean {
  const [a, b] = [parseParameterCount(one), parseParameterCount(other)];
  if (a === undefined || b === undefined) return one.toLowerCase() === other.toLowerCase();
  return Math.max(a, b) <= Math.min(a, b) * rounding;
}

/** `v3.0` and `3`, and `3.0-instruct`, which says more of the same. */
function isSameVersion(one: string, other: string): boolean {
  return plainVersion(one) === plainVersion(other);
}

function plainVersion(text: string): string {
  const [number] = /^\d+(?:\.\d+)*(?=$|[-_+])/.exec(text.toLowerCase().replace(/^v(?=\d)/, '')) ?? [];
  return number === undefined ? text.toLowerCase() : number.replace(/(?:\.0+)+$/, '');
}
