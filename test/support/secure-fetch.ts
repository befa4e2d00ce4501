import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { Readable } from 'node:stream';

/** `fetch` over TLS with a private CA, which Node's own can't be told; one connection a request. */
export async function secureFetch(url: URL, ca: string, options: RequestInit = {}): Promise<Response> {
  const asked = new Request(url, options);
  const body = asked.body ? Buffer.from(await asked.arrayBuffer()) : undefined;
  const headers = Object.fromEntries(asked.headers);
  const outgoing = request(url, { method: asked.method, headers, ca, agent: false });
  outgoing.end(body);
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
  const { statusCode: status = 0, statusMessage: statusText = '' } = incoming;
  const received = new Headers();
  for (const [name, values] of Object.entries(incoming.headersDistinct))
    for (const value of values ?? []) received.append(name, value);
  const empty = [101, 204, 205, 304].includes(status) || asked.method === 'HEAD';
  if (empty) incoming.resume();
  const content = empty ? null : (Readable.toWeb(incoming) as ReadableStream<Uint8Array>);
  return new Response(content, { status, statusText, headers: received });
}
