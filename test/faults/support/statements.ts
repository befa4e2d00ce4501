/** A statement that a client tells PostgreSQL to run, with its values as text. */
export interface Statement {
  readonly text: string;
  readonly values: readonly (string | undefined)[];
}

/**
 * What a client's messages run (the extended protocol: Parse gives a text a name, Bind gives it values).
 * @param names statements that were parsed before, by name; those parsed here are added.
 * @throws Error when a name is unknown: then nobody can say what is run.
 */
export function statementsOf(bytes: Buffer, names: Map<string, string>): Statement[] {
  const found: Statement[] = [];
  for (let at = 0; at + 5 <= bytes.length; ) {
    const type = String.fromCharCode(bytes[at] ?? 0);
    const length = bytes.readUInt32BE(at + 1);
    const message = bytes.subarray(at + 5, at + 1 + length);
    if (type === 'P') {
      const [name = '', text = ''] = message.toString('latin1').split('\0');
      names.set(name, text);
    } else if (type === 'B') {
      const [portal = '', name = ''] = message.toString('latin1').split('\0');
      const text = names.get(name);
      if (text === undefined) throw new Error(`the statement ${name} was parsed before the trace began`);
      found.push({ text, values: valuesOf(message, portal.length + name.length + 2) });
    } else if (!/^[DESCHXQ]$/.test(type)) return found;
    at += 1 + length;
  }
  return found;
}

function valuesOf(message: Buffer, start: number): (string | undefined)[] {
  let at = start + 2 + 2 * message.readUInt16BE(start);
  const count = message.readUInt16BE(at);
  at += 2;
  const values: (string | undefined)[] = [];
  for (let index = 0; index < count; index++) {
    const length = message.readInt32BE(at);
    at += 4;
    values.push(length < 0 ? undefined : message.toString('latin1', at, at + length));
    if (length > 0) at += length;
  }
  return values;
}
