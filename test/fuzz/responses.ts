// Responses as they stand on the wire, read by our own few lines, so that one that is malformed is seen.

export interface WireResponse {
  readonly status: number;
  /** The lines of the head after the first. */
  readonly fields: readonly string[];
  readonly body: Buffer;
}

export interface Reading {
  readonly responses: readonly WireResponse[];
  /** Bytes of a response that is not all there. */
  readonly rest: number;
}

/** Reads what has arrived. @throws Error if it is no HTTP. @param heads for each request, whether it was HEAD. */
export function readResponses(bytes: Buffer, heads: readonly boolean[]): Reading {
  const responses: WireResponse[] = [];
  let at = 0;
  while (at < bytes.length) {
    const end = bytes.indexOf('\r\n\r\n', at);
    if (end < 0) break;
    const [line = '', ...fields] = bytes.subarray(at, end).toString('latin1').split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3}) [\x20-\x7e]*$/.exec(line)?.[1] ?? Number.NaN);
    if (Number.isNaN(status)) throw new Error(`no status line: ${JSON.stringify(line.slice(0, 100))}`);
    const start = end + 4;
    if (status < 200) {
      at = start;
      continue;
    }
    const empty = heads[responses.length] === true || status === 204 || status === 304;
    const length = empty ? 0 : Number(fieldOf(fields, 'content-length'));
    if (!Number.isSafeInteger(length)) throw new Error(`a ${status} without a length`);
    if (start + length > bytes.length) break;
    responses.push({ status, fields, body: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return { responses, rest: bytes.length - at };
}

/** The value of a header by its lower-case name. */
export function fieldOf(fields: readonly string[], name: string): string | undefined {
  const line = fields.find((field) => field.toLowerCase().startsWith(`${name}:`));
  return line?.slice(name.length + 1).trim();
}
