import { readTag, tagOf } from '../weights/tag.js';
import { invalid, type Issue } from './failures.js';
import type { ReleaseTag } from './release-rows.js';

/** What a caller says of what a release is called; absent: not said. */
export interface ReleaseNames {
  readonly version?: string;
  readonly quantization?: string | null;
  readonly tag?: string;
}

/** The tag of a release as it was asked for. @throws 'Invalid' if version, quantization and tag don't say the same. */
export function identityOf(input: ReleaseNames): ReleaseTag {
  const { version, quantization } = input;
  if (input.tag === undefined && version === undefined)
    throw invalid({ loc: ['body', 'version'], msg: 'version or tag is needed', type: 'missing' });
  const tag = input.tag ?? tagOf(version ?? '', quantization ?? null);
  const issues: Issue[] = [];
  const fault = (field: string, msg: string) => issues.push({ loc: ['body', field], msg, type: 'value_error' });
  const unknown = typeof quantization === 'string' && !isLabel(quantization);
  if (unknown) fault('quantization', `${quantization} is no quantization that is known here`);
  const made = input.tag === undefined;
  const field = made ? 'version' : 'tag';
  // A tag made with what is no label says nothing of the version.
  if (unknown && made) throw invalid(...issues);
  const meaning = readTag(tag);
  if (meaning.kind !== 'release') {
    fault(
      field,
      `the tag ${tag} would be no release: a version begins with a digit, or v and a digit, or the tag ends with a known quantization`,
    );
    throw invalid(...issues);
  }
  if (version !== undefined && meaning.version.toLowerCase() !== version.toLowerCase())
    fault(field, `the tag ${tag} means version ${meaning.version || '(none)'}, not ${version || '(none)'}`);
  const differs = (meaning.quantization?.toLowerCase() ?? null) !== (quantization?.toLowerCase() ?? null);
  // Of a tag made of both, one of them says it.
  if (differs && !unknown && (made ? issues.length === 0 : quantization !== undefined))
    fault(
      made ? 'quantization' : 'tag',
      `the tag ${tag} means quantization ${meaning.quantization ?? '(none)'}, not ${quantization ?? '(none)'}`,
    );
  if (issues.length > 0) throw invalid(...issues);
  return { tag, version: meaning.version, quantization: meaning.quantization };
}

function isLabel(text: string): boolean {
  const meaning = readTag(text);
  return meaning.kind === 'release' && meaning.version === '' && meaning.quantization !== null;
}
