/** Formats by the end of a file's name; the first that matches. */
const byName: readonly (readonly [RegExp, string])[] = [
  [/\.safetensors$/, 'safetensors'],
  [/\.gguf(?:\.\d+)?$/, 'gguf'],
  [/\.(?:ggml|ggmf|ggjt)$/, 'ggml'],
  [/\.(?:pt|pth|pt2|ptl|pte|ckpt)$/, 'pytorch'],
  [/(?:^|[/_.-])(?:pytorch_model|adapter_model|consolidated|training_args)[^/]*\.bin$/, 'pytorch'],
  [/\.onnx(?:_data[^/]*)?$/, 'onnx'],
  [/\.(?:h5|hdf5|keras)$/, 'keras'],
  [/\.tflite$/, 'tflite'],
  [/\.pb$/, 'tensorflow'],
  [/\.msgpack$/, 'msgpack'],
  [/\.np[yz]$/, 'numpy'],
  [/\.(?:pkl|pickle|joblib)$/, 'pickle'],
  [/\.(?:engine|plan|trt)$/, 'tensorrt'],
  [/\.mlmodel$/, 'coreml'],
  [/\.llamafile$/, 'llamafile'],
  [/\.dduf$/, 'dduf'],
  [/(?:tokenizer|spiece|sentencepiece[^/]*)\.model$/, 'sentencepiece'],
  [/\.json$/, 'json'],
  [/\.jsonl$/, 'jsonl'],
  [/\.ya?ml$/, 'yaml'],
  [/\.toml$/, 'toml'],
  [/\.(?:md|markdown)$/, 'markdown'],
  [/\.jinja2?$/, 'jinja'],
  [/\.py$/, 'python'],
  [/\.ipynb$/, 'notebook'],
  [/\.csv$/, 'csv'],
  [/\.parquet$/, 'parquet'],
  [/\.arrow$/, 'arrow'],
  [/\.html?$/, 'html'],
  [/\.pdf$/, 'pdf'],
  [/\.txt$|(?:^|\/)(?:license|notice)$/, 'text'],
  [/\.(?:tar\.gz|tgz)$/, 'tar+gzip'],
  [/\.(?:tar\.zst|tzst)$/, 'tar+zstd'],
  [/\.tar$/, 'tar'],
  [/\.zip$/, 'zip'],
];

/** Formats by media type, where no name says more. */
const byMediaType: readonly (readonly [RegExp, string])[] = [
  [/\.gguf(?:\.|$)|\.mmproj$|^application\/vnd\.ollama\.image\.(?:model|projector|adapter)$/, 'gguf'],
  [/\.safetensors$|^application\/vnd\.ollama\.image\.tensor$/, 'safetensors'],
  [/\.dduf$/, 'dduf'],
  [/\.jinja$/, 'jinja'],
  [/[.+/]json$|^application\/vnd\.ollama\.image\.(?:params|messages)$/, 'json'],
  [/^text\/markdown$/, 'markdown'],
  [/^text\/html$/, 'html'],
  [/^application\/pdf$/, 'pdf'],
  [/^text\/plain$|^application\/vnd\.ollama\.image\.(?:template|system|prompt|license)$|\.ai\.license$/, 'text'],
  [/[./-]tar[.+]gzip$/, 'tar+gzip'],
  [/[./-]tar\+zstd$/, 'tar+zstd'],
  [/[./-]tar$/, 'tar'],
  [/^application\/zip$/, 'zip'],
];

/** In these a tar is a tar, whatever the file in it is called; elsewhere oras calls any file a tar. */
const isPacked = /^application\/vnd\.(?:cncf\.model|cnai\.model|kitops\.modelkit|docker\.ai)\..*[.]tar(?:\+[a-z]+)?$/;

/** Formats that hold weights. */
const weights: ReadonlySet<string> = new Set(
  'safetensors gguf ggml pytorch onnx keras tflite tensorflow msgpack numpy pickle tensorrt coreml llamafile dduf'.split(
    ' ',
  ),
);

/** The format of a file as its packager says it, undefined if unknown; nothing of the content was read. */
export function formatOf(mediaType: string, path: string, isUnpacked = false): string | undefined {
  if (isUnpacked) return 'tar+gzip';
  const named = isPacked.test(mediaType) ? undefined : match(byName, path.toLowerCase());
  return named ?? match(byMediaType, mediaType.toLowerCase());
}

/** Whether a format holds weights, rather than what goes with them. */
export function isWeightsFormat(format: string | undefined): format is string {
  return format !== undefined && weights.has(format);
}

function match(table: readonly (readonly [RegExp, string])[], text: string): string | undefined {
  return table.find(([pattern]) => pattern.test(text))?.[1];
}
