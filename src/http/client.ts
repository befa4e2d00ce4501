import type { IncomingMessage } from 'node:http';
import { type BlockList, isIPv4, isIPv6, type Socket } from 'node:net';

/** Where a request comes from and how the client wrote the registry's address, as far as proxies can be believed. */
export interface Client {
  readonly address: string;
  /** Such as `https://registry.example.com:5000`. */
  readonly origin: string;
  readonly secure: boolean;
}

export interface ClientOptions {
  readonly trustedProxies: BlockList;
  /** Overrides what requests say; empty: not set. */
  readonly publicUrl: string;
}

const HOST = /^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/;

/** Finds out who sent a request. Headers of proxies count only from addresses that are trusted. */
export function clientOf(request: IncomingMessage, { trustedProxies, publicUrl }: ClientOptions): Client {
  const { peer, trusted } = peerOf(request.socket, trustedProxies);
  const encrypted = 'encrypted' in request.socket;
  const forwarded = (name: string) => (trusted ? lastOf(request.headers[name]) : undefined);
  const scheme = forwarded('x-forwarded-proto')?.toLowerCase();
  const secure = publicUrl !== '' ? publicUrl.startsWith('https:') : scheme ? scheme === 'https' : encrypted;
  const named = [forwarded('x-forwarded-host'), request.headers.host].find(
    (host) => host !== undefined && HOST.test(host),
  );
  const origin = publicUrl || `${secure ? 'https' : 'http'}://${named ?? ownHost(request)}`;
  return {
    address: trusted ? farthest(request.headers['x-forwarded-for'], peer, trustedProxies) : peer,
    origin,
    secure,
  };
}

interface Peer {
  readonly peer: string;
  readonly trusted: boolean;
}

const peers = new WeakMap<Socket, Peer>();

/** Who is at the other end of a connection, which stays so. */
function peerOf(socket: Socket, trustedProxies: BlockList): Peer {
  const known = peers.get(socket);
  if (known) return known;
  const peer = plain(socket.remoteAddress ?? '');
  const found = { peer, trusted: isIn(trustedProxies, peer) };
  // A socket forgets it when it is closed.
  if (peer !== '') peers.set(socket, found);
  return found;
}

/** The last address that a trusted proxy vouches for. */
function farthest(header: string | string[] | undefined, peer: string, trusted: BlockList): string {
  const hops = String(header ?? '')
    .split(',')
    .map((hop) => plain(hop.trim()))
    .filter((hop) => hop !== '');
  let address = peer;
  for (const hop of hops.reverse()) {
    if (!isIn(trusted, address) || !(isIPv4(hop) || isIPv6(hop))) break;
    address = hop;
  }
  return address;
}

function isIn(list: BlockList, address: string): boolean {
  return isIPv4(address) ? list.check(address, 'ipv4') : isIPv6(address) && list.check(address, 'ipv6');
}

/** An IPv4 address as itself also where it came over a socket of IPv6. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=[0-9.]+$)/i, '').replace(/^\[(.*)\]$/, '$1');
}

/** What the nearest proxy said. */
function lastOf(header: string | string[] | undefined): string | undefined {
  return (
    String(header ?? '')
      .split(',')
      .at(-1)
      ?.trim() || undefined
  );
}

function ownHost({ socket }: IncomingMessage): string {
  const address = plain(socket.localAddress ?? '');
  return `${isIPv6(address) ? `[${address}]` : address}:${socket.localPort}`;
}
