/** The types of parameters that the contract has. */
export type ParameterType = 'string' | 'integer' | 'boolean' | 'array';

/** The texts of a parameter as a value of its type; as they are, where they are none. Arrays may also come by commas. */
export function readText(texts: readonly string[], type: ParameterType): unknown {
  if (type === 'array') return texts.flatMap((text) => text.split(','));
  const [text = ''] = texts;
  if (type === 'integer' && /^-?[0-9]{1,15}$/.test(text)) return Number(text);
  if (type === 'boolean' && /^(true|false)$/.test(text)) return text === 'true';
  return text;
}
