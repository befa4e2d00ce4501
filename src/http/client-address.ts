import type { IncomingMessage } from 'node:http';
import { isIPv6 } from 'node:net';

/** The address of the client of a request, as its connection tells it; empty once the connection is gone. */
export function addressOf(request: IncomingMessage): string {
  return request.socket.remoteAddress ?? '';
}

/**
 * What limits take for one client: an IPv4 address (also where IPv6 wraps it), or the /64 of an IPv6 address, of which
 * anybody has 2^64.
 */
export function networkOf(address: string): string {
  const mapped = /^::ffff:([0-9.]+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !isIPv6(address)) return mapped ?? address;
  const plain = address.replace(/%.*$/, '').replace(/[0-9.]+\.[0-9]+$/, '0:0');
  const [left = [], right = []] = plain.split('::').map((half) => half.split(':').filter((group) => group !== ''));
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  const groups = [...left, ...zeros, ...right].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`;
}
