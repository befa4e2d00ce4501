import type { Manifest } from '../oci/manifest.js';
import { isWeightsFormat } from './format.js';
import type { ModelFile } from './files.js';
import { OCI_LICENSES, OCI_TITLE, OCI_VERSION, type Packaging } from './media-types.js';
import { isQuantization, isSameQuantization, labelOfFileType, lastQuantization } from './quantization.js';
import type { TagMeaning } from './tag.js';
import { itemsAt, textAt, textOf } from './untrusted.js';

/** What can be said of a model. */
export const subjects = [
  'name',
  'version',
  'family',
  'architecture',
  'parameters',
  'quantization',
  'precision',
  'format',
  'license',
] as const;

export type Subject = (typeof subjects)[number];

/** What one source says: of each subject any number of values, the one that counts first. */
export type Claims = Readonly<Partial<Record<Subject, readonly (string | undefined)[]>>>;

/** What a config says, by the rules of its packaging. */
export function claimsOfConfig(packaging: Packaging | undefined, config: unknown): Claims {
  return packaging === undefined ? {} : ofConfig[packaging](config);
}

const ofConfig: Readonly<Record<Packaging, (config: unknown) => Claims>> = {
  modelpack: ofModelPack,
  docker: ofDocker,
  modelkit: ofKitfile,
  ollama: ofOllama,
  files: () => ({}),
};

function ofModelPack(config: unknown): Claims {
  const precision = quantizationAt(config, 'config', 'precision');
  return {
    name: [textAt(config, 'descriptor', 'name')],
    version: [textAt(config, 'descriptor', 'version')],
    family: [textAt(config, 'descriptor', 'family')],
    architecture: [textAt(config, 'config', 'architecture')],
    parameters: [textAt(config, 'config', 'paramSize')],
    // A technique such as "awq" there, and the type of the numbers here; one alone is how the weights are stored.
    quantization: [quantizationAt(config, 'config', 'quantization'), precision],
    precision: [precision],
    format: [textAt(config, 'config', 'format')],
    license: [joined(itemsAt(config, 'descriptor', 'licenses'))],
  };
}

function ofDocker(config: unknown): Claims {
  const fileType = labelOfFileType(textAt(config, 'config', 'gguf', 'general.file_type'));
  // Of two parts, "IQ2_XXS/Q4_K_M", the one counts that the file's header agrees with.
  const parts = (quantizationAt(config, 'config', 'quantization') ?? '').split('/').map((part) => part.trim());
  const agreed = parts.filter((part) => fileType !== undefined && part.toLowerCase() === fileType.toLowerCase());
  return {
    name: [textAt(config, 'config', 'gguf', 'general.name')],
    architecture: [textAt(config, 'config', 'architecture'), textAt(config, 'config', 'gguf', 'general.architecture')],
    parameters: [textAt(config, 'config', 'parameters')],
    quantization: [...agreed, ...parts, fileType],
    format: [textAt(config, 'config', 'format')],
    license: [textAt(config, 'config', 'gguf', 'general.license')],
  };
}

function ofKitfile(config: unknown): Claims {
  return {
    name: [textAt(config, 'model', 'name'), textAt(config, 'package', 'name')],
    version: [textAt(config, 'package', 'version'), textAt(config, 'model', 'version')],
    format: [textAt(config, 'model', 'format')],
    license: [textAt(config, 'model', 'license'), textAt(config, 'package', 'license')],
  };
}

/** Its "architecture" is the processor's. */
function ofOllama(config: unknown): Claims {
  return {
    family: [textAt(config, 'model_family')],
    parameters: [textAt(config, 'model_type')],
    quantization: [quantizationAt(config, 'file_type')],
    format: [textAt(config, 'model_format')],
  };
}

/**
 * What the entries of an index say of their models (KitOps). Where they differ the index is of all of them, and none is said of
 * the whole.
 */
export function claimsOfIndex({ manifests }: Manifest): Claims {
  const said = manifests.flatMap(({ modelMetadata }) => quantizationAt(modelMetadata, 'quantization') ?? []);
  const [first] = said;
  return first !== undefined && said.every((other) => isSameQuantization(first, other))
    ? { quantization: [first] }
    : {};
}

/** Words that tools write where they don't know one answer. */
const noQuantization: ReadonlySet<string> = new Set(['mixed', 'unknown', 'none', 'n/a', 'null', '-']);

function quantizationAt(config: unknown, ...path: readonly string[]): string | undefined {
  const text = textAt(config, ...path);
  return text === undefined || noQuantization.has(text.toLowerCase()) ? undefined : text;
}

function joined(items: readonly unknown[]): string | undefined {
  const texts = items.slice(0, 20).flatMap((item) => textOf(item) ?? []);
  return textOf(texts.join(' AND '));
}

/** What the annotations of a manifest say. */
export function claimsOfAnnotations({ annotations }: Manifest): Claims {
  return {
    name: [textAt(annotations, OCI_TITLE)],
    version: [textAt(annotations, OCI_VERSION)],
    license: [textAt(annotations, OCI_LICENSES)],
  };
}

/** Manifests with more files of weights are shards of one model, whose names say the same. */
const namesRead = 50;

/** Of a path, in UTF-16 units from its end: the file's name, and mostly the folder's. */
const nameRead = 255;

/** A size such as 7B, 8x7B or 30B-A3B between separators; not of K, which is mostly the length of the context. */
const sizeInName = /(?:^|[-_./])((?:\d{1,4}x)?\d{1,4}(?:\.\d{1,3})?[mbt](?:-a\d{1,4}(?:\.\d{1,3})?[mb])?)(?=$|[-_./])/i;

/** What the names of the files of weights say, those of more bytes first. */
export function claimsOfNames(files: readonly ModelFile[]): Claims {
  const formats = new Tally();
  const quantizations = new Tally();
  const parameters = new Tally();
  const named = files.filter((file) => isWeightsFormat(file.format) && !/mmproj/i.test(file.name));
  for (const { name, path, format, size } of named.slice(0, namesRead)) {
    const text = (path ?? name).slice(-nameRead);
    formats.add(format, size);
    quantizations.add(lastQuantization(text), size);
    parameters.add(sizeInName.exec(text)?.[1], size);
  }
  return { format: formats.ranked(), quantization: quantizations.ranked(), parameters: parameters.ranked() };
}

/** Bytes by what they are said to be. */
class Tally {
  readonly #bytes = new Map<string, number>();

  add(value: string | undefined, bytes: number): void {
    if (value !== undefined) this.#bytes.set(value, (this.#bytes.get(value) ?? 0) + bytes);
  }

  /** The values with the most bytes first. */
  ranked(): string[] {
    return [...this.#bytes].sort(([, one], [, other]) => other - one).map(([value]) => value);
  }
}

/** What a tag says. Its version counts as one only if it looks so: `7b-instruct` says a size. */
export function claimsOfTag(tag: TagMeaning): Claims {
  if (tag.kind !== 'release') return {};
  const { version, quantization } = tag;
  return {
    version: [/^v?\d+(?:\.\d+)*(?=$|[-_+])/i.exec(version)?.[0]],
    parameters: [sizeInName.exec(version)?.[1]],
    quantization: [quantization !== null && isQuantization(quantization) ? quantization : undefined],
  };
}
