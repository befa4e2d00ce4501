import type { Annotations, Descriptor } from '../oci/descriptor.js';
import type { Digest } from '../oci/digest.js';
import { invalidField } from '../oci/json.js';
import { buildManifest, describeBytes } from '../oci/manifest-builder.js';
import { formatOf, isWeightsFormat } from './format.js';
import {
  MODELPACK_CONFIG,
  MODELPACK_FILEPATH,
  MODELPACK_MANIFEST,
  MODELPACK_UNTESTED,
  OCI_CREATED,
  OCI_TITLE,
} from './media-types.js';
import { safePath } from './untrusted.js';

/** A file of a model whose blob is there. */
export interface PackedFile {
  /** Where clients write it, below the folder that they pull into. */
  readonly path: string;
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  /** One of ModelPack's for files as they are (`….v1.raw`) is kept; any other gives way to what the name says. */
  readonly mediaType?: string;
}

/** What the config says; what is absent is left out. */
export interface PackedFacts {
  readonly name?: string;
  readonly version?: string;
  readonly quantization?: string;
  /** How many, of all experts together. */
  readonly parameters?: number;
  readonly architecture?: string;
  readonly family?: string;
  /** Of the weights; by default that of the files with the most bytes. */
  readonly format?: string;
  readonly licenses?: readonly string[];
  readonly created?: Date;
}

export interface ModelPack {
  readonly artifactType: string;
  /** The blob that has to be there before the manifest, beside those of the files. */
  readonly config: Uint8Array;
  readonly configDescriptor: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly manifest: Uint8Array;
}

/**
 * Builds a model in the format of CNCF ModelPack v1 (modelpack/model-spec), a layer a file, so that modctl pulls it; the
 * titles are for oras. The same input gives the same bytes.
 * @throws RegistryError ManifestInvalid where there is no file, or where the paths aren't those of files beside each other
 */
export function buildModelPack(files: readonly PackedFile[], facts: PackedFacts = {}): ModelPack {
  checkPaths(files);
  const layers = files.map(layerOf);
  const config = Buffer.from(JSON.stringify(configOf(files, facts)));
  const configDescriptor = describeBytes(MODELPACK_CONFIG, config);
  const manifest = buildManifest({
    artifactType: MODELPACK_MANIFEST,
    config: configDescriptor,
    layers,
    ...(facts.created && { annotations: { [OCI_CREATED]: facts.created.toISOString() } }),
  });
  return { artifactType: MODELPACK_MANIFEST, config, configDescriptor, layers, manifest };
}

/** Clients write files in any order, so none may lie where another, or its folder, lies. */
function checkPaths(files: readonly PackedFile[]): void {
  if (files.length === 0) throw invalidField('files', 'is empty');
  const paths = new Set<string>();
  for (const [index, { path }] of files.entries()) {
    if (path === '' || safePath(path) !== path)
      throw invalidField(`files[${index}].path`, 'is not a path below a folder');
    if (paths.has(path)) throw invalidField(`files[${index}].path`, 'is that of another file');
    paths.add(path);
  }
  for (const [index, { path }] of files.entries()) {
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      if (paths.has(path.slice(0, slash))) throw invalidField(`files[${index}].path`, 'lies in another file');
    }
  }
}

const rawLayer = /^application\/vnd\.cncf\.model\.(?:weight|weight\.config|doc|code|dataset)\.v1\.raw$/;

function layerOf({ path, digest, size, mediaType = '' }: PackedFile): Descriptor {
  const kind = kindOf(path);
  const isStated = rawLayer.test(mediaType);
  const annotations: Annotations = {
    [MODELPACK_FILEPATH]: path,
    [OCI_TITLE]: path,
    ...(!isStated && kind === undefined && { [MODELPACK_UNTESTED]: 'true' }),
  };
  const ofKind = `application/vnd.cncf.model.${kind ?? 'weight'}.v1.raw`;
  return { mediaType: isStated ? mediaType : ofKind, digest, size, annotations };
}

/** Kinds of files by the end of their names, as modctl sorts them; the first that matches. */
const kinds: readonly (readonly [RegExp, string])[] = [
  [/\.(?:parquet|arrow|csv|tsv)$|(?:^|\/)(?:data|datasets?)\/[^/]+\.(?:jsonl?|txt)$/, 'dataset'],
  [
    /(?:^|\/)(?:vocab|merges|added_tokens)\.txt$|(?:tokenizer|spiece|tiktoken|sentencepiece[^/]*)\.model$/,
    'weight.config',
  ],
  [/(?:^|\/)requirements[^/]*\.txt$/, 'code'],
  [/\.(?:jsonl?|json5|jsonc|ya?ml|toml|ini|cfg|conf|xml|tiktoken|jinja2?|properties)$/, 'weight.config'],
  [/\.(?:md|txt|pdf|html?|rst|adoc|tex|docx?|rtf|png|jpe?g|gif|svg|webp)$/, 'doc'],
  [/(?:^|\/)(?:readme|license|licence|notice|changelog|authors|use_policy|usage)$/, 'doc'],
  [/\.(?:py|ipynb|sh|c|h|cc|cpp|hpp|cu|cuh|rs|go|js|mjs|ts|java|rb|lua|r|jl|so|dll|dylib)$/, 'code'],
];

/** Undefined where the name doesn't tell. */
function kindOf(path: string): string | undefined {
  if (isWeightsFormat(formatOf('', path)) || /\.bin$/i.test(path)) return 'weight';
  return kinds.find(([pattern]) => pattern.test(path.toLowerCase()))?.[1];
}

/** modelpack/model-spec: schema/config-schema.json, which allows no other fields. */
function configOf(files: readonly PackedFile[], facts: PackedFacts): object {
  const { name, version, quantization, parameters, architecture, family, licenses, created } = facts;
  const format = facts.format ?? mainFormat(files);
  return {
    descriptor: {
      ...(created && { createdAt: created.toISOString() }),
      ...(family && { family }),
      ...(name && { name }),
      ...(version && { version }),
      ...(licenses && licenses.length > 0 && { licenses }),
    },
    modelfs: { type: 'layers', diffIds: files.map(({ digest }) => digest) },
    config: {
      ...(architecture && { architecture }),
      ...(format && { format }),
      ...(parameters && { paramSize: paramSize(parameters) }),
      ...(quantization && { [isNumberType(quantization) ? 'precision' : 'quantization']: quantization }),
    },
  };
}

/** The type of the numbers themselves is a precision there; a technique, or a GGUF label, is a quantization. */
function isNumberType(quantization: string): boolean {
  return /^(?:(?:fp|f|float|bf|bfloat|tf)\d+(?:_e\dm\d(?:fn)?)?|u?int\d+)$/i.test(quantization);
}

function mainFormat(files: readonly PackedFile[]): string | undefined {
  const bytes = new Map<string, number>();
  for (const { path, size } of files) {
    const format = formatOf('', path);
    if (isWeightsFormat(format)) bytes.set(format, (bytes.get(format) ?? 0) + size);
  }
  return [...bytes].sort(([, one], [, other]) => other - one)[0]?.[0];
}

/** One decimal and a letter (docs/config.md), such as 7.6B. */
function paramSize(parameters: number): string {
  for (const [letter, unit] of [
    ['T', 1e12],
    ['B', 1e9],
    ['M', 1e6],
    ['K', 1e3],
  ] as const) {
    if (parameters >= unit) return `${Math.round((parameters / unit) * 10) / 10}${letter}`;
  }
  return `${Math.max(0.1, Math.round(parameters / 100) / 10)}K`;
}
