// Small files of weights with true headers: what a reader of safetensors or GGUF learns of them is what a large one would say.
import { createCipheriv, createHash } from 'node:crypto';

/** The same bytes for the same seed. */
function bytesOf(seed, size) {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

const product = (shape) => shape.reduce((all, length) => all * length, 1);

/** Bytes of one number, by the names of the safetensors format. */
const NUMBERS = { F32: 4, F16: 2, BF16: 2, F8_E4M3: 1, I8: 1, U8: 1, I32: 4 };

/**
 * A safetensors file: the length of its header, the header as JSON, the numbers.
 * @param tensors by name: [type, shape]
 */
export function safetensors(seed, tensors, metadata = { format: 'pt' }) {
  const header = { __metadata__: metadata };
  let end = 0;
  for (const [name, [dtype, shape]] of Object.entries(tensors)) {
    const start = end;
    end += product(shape) * NUMBERS[dtype];
    header[name] = { dtype, shape, data_offsets: [start, end] };
  }
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, bytesOf(seed, end)]);
}

/** ggml's types: their number, how many numbers a block has, and its bytes. */
const BLOCKS = { F32: [0, 1, 4], F16: [1, 1, 2], Q8_0: [8, 32, 34], Q4_K: [12, 256, 144], Q5_K: [13, 256, 176] };
/** By quantization: llama.cpp's number of the file type, and the type of most tensors. */
const FILE_TYPES = { F16: [1, 'F16'], Q8_0: [7, 'Q8_0'], Q4_K_M: [15, 'Q4_K'], Q5_K_M: [17, 'Q5_K'] };
const ALIGNMENT = 32;
const UINT32 = 4;
const STRING = 8;
const ARRAY = 9;

/**
 * A GGUF file, version 3: keys and values, what tensors there are, and, aligned, their numbers.
 * @param model architecture, name, context, license
 */
export function gguf(seed, { architecture, name, context, license }, quantization) {
  const [fileType, kind] = FILE_TYPES[quantization];
  const pairs = [
    ['general.architecture', text(architecture)],
    ['general.type', text('model')],
    ['general.name', text(name)],
    ['general.license', text(license)],
    ['general.file_type', uint32(fileType)],
    ['general.quantization_version', uint32(2)],
    ['general.alignment', uint32(ALIGNMENT)],
    [`${architecture}.context_length`, uint32(context)],
    [`${architecture}.embedding_length`, uint32(256)],
    [`${architecture}.block_count`, uint32(1)],
    [`${architecture}.attention.head_count`, uint32(4)],
    ['tokenizer.ggml.model', text('gpt2')],
    ['tokenizer.ggml.tokens', texts(['<s>', '</s>', 'weigh', 'house'])],
  ];
  const tensors = [
    ['token_embd.weight', [256, 4], kind],
    ['blk.0.attn_q.weight', [256, 8], kind],
    ['blk.0.attn_norm.weight', [256], 'F32'],
    ['output_norm.weight', [256], 'F32'],
  ];
  let offset = 0;
  const described = tensors.map(([tensor, shape, type]) => {
    const [number, perBlock, bytes] = BLOCKS[type];
    const at = offset;
    offset = aligned(offset + (product(shape) / perBlock) * bytes);
    return Buffer.concat([string(tensor), u32(shape.length), ...shape.map(u64), u32(number), u64(at)]);
  });
  const head = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(tensors.length),
    u64(pairs.length),
    ...pairs.map(([key, value]) => Buffer.concat([string(key), value])),
    ...described,
  ]);
  return Buffer.concat([head, Buffer.alloc(aligned(head.length) - head.length), bytesOf(seed, offset)]);
}

const aligned = (size) => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

function u32(number) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

function u64(number) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(number));
  return bytes;
}

const string = (value) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const uint32 = (value) => Buffer.concat([u32(UINT32), u32(value)]);
const text = (value) => Buffer.concat([u32(STRING), string(value)]);
const texts = (values) => Buffer.concat([u32(ARRAY), u32(STRING), u64(values.length), ...values.map(string)]);
