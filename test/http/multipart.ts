import { expect } from 'chai';

export interface Part {
  readonly contentType: string;
  readonly contentRange: string;
  readonly body: Buffer;
}

/** Takes a multipart/byteranges body apart (RFC 9110 section 14.6), strictly: every byte of it is accounted for. */
export function parseMultipart(contentType: string | null | undefined, body: Buffer): Part[] {
  const boundary = /^multipart\/byteranges; boundary=([0-9A-Za-z'()+_,\-./:=?]{1,70})$/.exec(contentType ?? '')?.[1];
  expect(boundary, contentType ?? '').to.be.a('string');
  const parts: Part[] = [];
  const delimiter = `\r\n--${boundary}`;
  let at = 0;
  // nginx begins with a CRLF too; RFC 2046 allows a preamble, and a boundary at the very start has none.
  if (body.subarray(0, delimiter.length - 2).toString('latin1') === delimiter.slice(2)) at = delimiter.length - 2;
  else {
    expect(body.subarray(0, delimiter.length).toString('latin1')).to.equal(delimiter);
    at = delimiter.length;
  }
  while (body.subarray(at, at + 2).toString('latin1') !== '--') {
    const endOfHead = body.indexOf('\r\n\r\n', at);
    const head = body.subarray(at, endOfHead).toString('latin1');
    const contentRange = /\r\nContent-Range: ([^\r]+)/i.exec(head)?.[1] ?? '';
    const [, first, last] = /^bytes (\d+)-(\d+)\/\d+$/.exec(contentRange) ?? [];
    const length = Number(last) - Number(first) + 1;
    const start = endOfHead + 4;
    parts.push({
      contentType: /\r\nContent-Type: ([^\r]+)/i.exec(head)?.[1] ?? '',
      contentRange,
      body: body.subarray(start, start + length),
    });
    at = start + length;
    expect(body.subarray(at, at + delimiter.length).toString('latin1')).to.equal(delimiter);
    at += delimiter.length;
  }
  expect(body.subarray(at).toString('latin1')).to.match(/^--(\r\n)?$/);
  return parts;
}
