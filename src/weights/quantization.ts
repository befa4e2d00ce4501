// The labels by which people say how weights are stored: data, so that a new one is one more word here.

const gguf: readonly string[] = [
  ...['Q1_0', 'Q2_0', 'Q4_0', 'Q4_1', 'Q4_2', 'Q4_3', 'Q5_0', 'Q5_1', 'Q8_0', 'Q8_1', 'Q4_1_SOME_F16'],
  ...['Q4_0_4_4', 'Q4_0_4_8', 'Q4_0_8_8', 'TQ1_0', 'TQ2_0', 'MXFP4', 'MXFP4_MOE', 'NVFP4', 'I2_S'],
  // llama.cpp has S, M and L of some; bartowski and unsloth have L and XL of all.
  ...combine(['Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'Q8_K'], ['', '_XS', '_S', '_M', '_L', '_XL', '_XXL']),
  ...combine(['IQ1', 'IQ2', 'IQ3', 'IQ4'], ['_XXS', '_XS', '_S', '_M', '_L', '_NL', '_XL', '_NL_XL']),
  // ik_llama.cpp
  ...combine(['IQ1', 'IQ2', 'IQ3', 'IQ4', 'IQ5', 'IQ6'], ['_K', '_KS', '_KSS', '_KL', '_KT']),
];

const types: readonly string[] = [
  ...['fp64', 'f64', 'fp32', 'f32', 'float32', 'fp16', 'f16', 'float16', 'bf16', 'bfloat16', 'tf32'],
  ...['fp8', 'fp8_e4m3', 'fp8_e4m3fn', 'fp8_e5m2', 'f8_e4m3', 'f8_e4m3fn', 'f8_e5m2', 'fp8_dynamic', 'fp8_block'],
  ...['fp6', 'fp4', 'nf4', 'mxfp4', 'mxfp6', 'mxfp8', 'nvfp4', 'nvfp4a16'],
  ...['int8', 'int6', 'int5', 'int4', 'int3', 'int2', 'uint8', 'uint4'],
  ...['w4a16', 'w8a16', 'w8a8', 'w4a8', 'w4a4', 'w3a16', 'w2a16', 'w4a16_g128', 'w8a8_fp8', 'w8a8_int8'],
  ...['8bit', '6bit', '5bit', '4bit', '3bit', '2bit', '1bit', '1.58bit'],
  // MLC
  ...['q0f16', 'q0f32', 'q0bf16', 'q3f16_1', 'q4f16', 'q4f16_0', 'q4f16_1', 'q4f32_1', 'q4bf16_1'],
];

const methods = ['awq', 'gptq', 'bnb', 'hqq', 'autoround', 'mlx', 'quark', 'aqlm', 'eetq', 'exl2', 'exl3', 'gptqmodel'];
const widths = [
  '_int8',
  '_int4',
  '_int3',
  '_8bit',
  '_6bit',
  '_5bit',
  '_4bit',
  '_3bit',
  '_2bit',
  '_nf4',
  '_fp8',
  '_fp4',
];

// Not as labels of their own: words that stand for more than a way to store weights.
const notAlone: ReadonlySet<string> = new Set(['mlx', 'quark']);

const labels: ReadonlySet<string> = new Set(
  [
    ...gguf,
    ...gguf.map((label) => `UD_${label}`),
    ...types,
    ...methods.filter((method) => !notAlone.has(method)),
    ...combine(methods, widths),
  ].map(fold),
);

/** ExLlama's bits per weight, such as `4.65bpw`. */
const bitsPerWeight = /^[1-9]\d?(?:\.\d{1,2})?bpw$/;

/** The longest label that is known, in characters. */
const longestLabel = Math.max('12.25bpw'.length, ...[...labels].map((label) => label.length));

/** Other names of the same thing. */
const aliases: ReadonlyMap<string, string> = new Map([
  ['f64', 'fp64'],
  ['f32', 'fp32'],
  ['float32', 'fp32'],
  ['f16', 'fp16'],
  ['float16', 'fp16'],
  ['half', 'fp16'],
  ['bfloat16', 'bf16'],
  ['fp8_e4m3fn', 'fp8_e4m3'],
  ['f8_e4m3', 'fp8_e4m3'],
  ['f8_e4m3fn', 'fp8_e4m3'],
  ['f8_e5m2', 'fp8_e5m2'],
  ['mxfp4_moe', 'mxfp4'],
]);

function combine(heads: readonly string[], tails: readonly string[]): string[] {
  return heads.flatMap((head) => tails.map((tail) => head + tail));
}

/** One spelling of a label: `FP8-E4M3` and `fp8_e4m3` are written by different tools. */
function fold(label: string): string {
  return label.toLowerCase().replaceAll('-', '_');
}

/** Whether `text` is a label for how weights are stored, in any case, with `-` or `_` between its parts. */
export function isQuantization(text: string): boolean {
  return text.length <= longestLabel && (labels.has(fold(text)) || bitsPerWeight.test(text.toLowerCase()));
}

/** Whether two labels mean the same: in any case, with `-` or `_`, by any name (`F16`, `fp16`). */
export function isSameQuantization(one: string, other: string): boolean {
  return meaningOf(one) === meaningOf(other);
}

function meaningOf(label: string): string {
  const folded = fold(label);
  return aliases.get(folded) ?? folded;
}

/** What stands between a label and the rest of a tag or a file's name. */
const separator = /[-_./]/;

/**
 * The longest label that ends at `end` and begins `text` or follows a separator; undefined if there is none. Looks at no
 * more of the text than the longest label has.
 */
export function labelEndingAt(text: string, end: number): string | undefined {
  for (let start = Math.max(0, end - longestLabel); start < end; start++) {
    if (start > 0 && !separator.test(text.charAt(start - 1))) continue;
    const label = text.slice(start, end);
    if (isQuantization(label)) return label;
  }
  return undefined;
}

/**
 * The label that stands last in the path of a file: `Q4_K_M` of `tiny-f16/tiny-Q4_K_M-00001-of-00002.gguf`. Undefined if
 * there is none. The time is linear.
 */
export function lastQuantization(path: string): string | undefined {
  for (let end = path.length; end > 0; end--) {
    const isEnd = end === path.length || separator.test(path.charAt(end));
    const label = isEnd ? labelEndingAt(path, end) : undefined;
    if (label !== undefined) return label;
  }
  return undefined;
}

/** llama.cpp's `llama_ftype`, which GGUF files keep as `general.file_type`; not ggml's enumeration of the same name. */
const fileTypes: readonly string[] = [
  ...['F32', 'F16', 'Q4_0', 'Q4_1', 'Q4_1_SOME_F16', 'Q4_2', 'Q4_3', 'Q8_0', 'Q5_0', 'Q5_1', 'Q2_K', 'Q3_K_S'],
  ...['Q3_K_M', 'Q3_K_L', 'Q4_K_S', 'Q4_K_M', 'Q5_K_S', 'Q5_K_M', 'Q6_K', 'IQ2_XXS', 'IQ2_XS', 'Q2_K_S', 'IQ3_XS'],
  ...['IQ3_XXS', 'IQ1_S', 'IQ4_NL', 'IQ3_S', 'IQ3_M', 'IQ2_S', 'IQ2_M', 'IQ4_XS', 'IQ1_M', 'BF16', 'Q4_0_4_4'],
  ...['Q4_0_4_8', 'Q4_0_8_8', 'TQ1_0', 'TQ2_0', 'MXFP4_MOE', 'NVFP4', 'Q1_0', 'Q2_0'],
];

/** The label of a `general.file_type`, written as a number; undefined where it is none that is known. */
export function labelOfFileType(text: string | undefined): string | undefined {
  return text !== undefined && /^\d{1,4}$/.test(text) ? fileTypes[Number(text)] : undefined;
}
