/** What keeps a release; one that nothing keeps goes. At least one of them is said. */
export interface Keep {
  /** Of each quantization the so many newest by the order of versions; those that are withdrawn don't count. */
  readonly last?: number;
  /** Those whose tag was set within so many days. */
  readonly younger_than_days?: number;
  /** Those whose tag fits one of the patterns; `*` stands for any characters. */
  readonly tags?: readonly string[];
  /** Those that were pulled, or whose tag was set, within so many days. */
  readonly pulled_within_days?: number;
  /** Those that were ever deployed. */
  readonly deployed?: true;
}

/** What becomes of the releases of a model: kept whatever others say, or kept by what is said here alone. */
export type Retention = { readonly keep: true } | Keep;

/** Who says what keeps the releases of a model. */
export interface RetentionRule {
  readonly keep: Keep;
  readonly by: { readonly policy_id: string; readonly pattern: string } | { readonly model_id: string };
}

/** Why a release stays. The first five are what a rule says; the others hold under every rule. */
export type KeptBy =
  | 'last'
  | 'young'
  | 'tag'
  | 'pulled'
  | 'deployed'
  | 'new'
  | 'live'
  | 'alias'
  | 'protected'
  | 'immutable';

/** The conditions of a rule; undefined: everything is kept. */
export function keepOf(retention: Retention): Keep | undefined {
  return 'keep' in retention ? undefined : retention;
}
