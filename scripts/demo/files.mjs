// The files of a release, as they would lie in a folder.
import { gguf, safetensors } from './weights.mjs';

/** Types of the weights by quantization; what is packed into other numbers has scales beside it. */
const TYPES = { bf16: 'BF16', fp16: 'F16', fp32: 'F32', fp8: 'F8_E4M3', int8: 'I8', nf4: 'U8', awq: 'I32' };
const isScaled = (quantization) => ['fp8', 'int8', 'nf4', 'awq'].includes(quantization);
const isGguf = (quantization) => /^(?:q\d|f16$)/i.test(quantization);

/** @returns [{ path, bytes }] of a model (models.mjs) in a version and a quantization */
export function filesOf(described, version, quantization) {
  const { model, architecture, context, license } = described;
  const seed = `${model.storage_path} ${version} ${quantization}`;
  const base = model.name.replaceAll(' ', '-').toLowerCase();
  if (isGguf(quantization)) {
    const name = `${model.name} ${version}`;
    const weights = gguf(seed, { architecture, name, context, license }, quantization);
    return [{ path: `${base}-${quantization}.gguf`, bytes: weights }, readme(described, version, quantization)];
  }
  return [
    json('config.json', {
      architectures: [architecture],
      model_type: architecture,
      hidden_size: 32,
      num_hidden_layers: 1,
      max_position_embeddings: context,
      vocab_size: 4,
      ...(isScaled(quantization) ? { quantization_config: { quant_method: quantization } } : {}),
    }),
    json('tokenizer.json', {
      version: '1.0',
      model: { type: 'BPE', vocab: { '<s>': 0, '</s>': 1, weigh: 2, house: 3 }, merges: [] },
    }),
    ...weightsOf(seed, quantization, described.shards ?? 1),
    readme(described, version, quantization),
  ];
}

function weightsOf(seed, quantization, shards) {
  const layers = Array.from({ length: shards }, (_, layer) =>
    tensorsOf(layer, TYPES[quantization], isScaled(quantization)),
  );
  if (shards === 1) return [{ path: 'model.safetensors', bytes: safetensors(seed, layers[0]) }];
  const pathOf = (shard) =>
    `model-${String(shard + 1).padStart(5, '0')}-of-${String(shards).padStart(5, '0')}.safetensors`;
  const files = layers.map((tensors, shard) => ({
    path: pathOf(shard),
    bytes: safetensors(`${seed} ${shard}`, tensors),
  }));
  const weightMap = Object.fromEntries(
    layers.flatMap((each, shard) => Object.keys(each).map((name) => [name, pathOf(shard)])),
  );
  const size = files.reduce((sum, { bytes }) => sum + bytes.length, 0);
  return [json('model.safetensors.index.json', { metadata: { total_size: size }, weight_map: weightMap }), ...files];
}

function tensorsOf(layer, type, scaled) {
  const own = `model.layers.${layer}`;
  return {
    ...(layer === 0 ? { 'model.embed_tokens.weight': ['F32', [4, 32]] } : {}),
    [`${own}.self_attn.q_proj.weight`]: [type, [32, 32]],
    ...(scaled ? { [`${own}.self_attn.q_proj.weight_scale`]: ['F32', [32]] } : {}),
    [`${own}.mlp.up_proj.weight`]: [type, [64, 32]],
    ...(scaled ? { [`${own}.mlp.up_proj.weight_scale`]: ['F32', [64]] } : {}),
    [`${own}.input_layernorm.weight`]: ['F32', [32]],
  };
}

function json(path, content) {
  return { path, bytes: Buffer.from(`${JSON.stringify(content, null, 2)}\n`) };
}

function readme({ model, license }, version, quantization) {
  const front = `---\nlicense: ${license}\nbase_model: ${model.base_model}\ntags: [${model.tags.join(', ')}]\n---\n`;
  const text = `${front}${model.description}\nThis is ${version}, ${quantization}, of a set for trying Weighhouse out; the numbers in it mean nothing.\n`;
  return { path: 'README.md', bytes: Buffer.from(text) };
}
