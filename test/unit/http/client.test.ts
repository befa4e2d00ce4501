import type { IncomingMessage } from 'node:http';
import { BlockList } from 'node:net';
import { expect } from 'chai';
import { clientOf } from '../../../src/http/client.js';

const trusted = new BlockList();
trusted.addSubnet('10.0.0.0', 8, 'ipv4');
trusted.addSubnet('fd00::', 8, 'ipv6');

const request = (peer: string, headers: Record<string, string>, encrypted = false) =>
  ({
    headers,
    socket: { remoteAddress: peer, localAddress: '127.0.0.1', localPort: 5000, ...(encrypted ? { encrypted } : {}) },
  }) as unknown as IncomingMessage;
const client = (peer: string, headers: Record<string, string>, publicUrl = '', encrypted = false) =>
  clientOf(request(peer, headers, encrypted), { trustedProxies: trusted, publicUrl });

describe('the client of a request', () => {
  it('is its peer, at the address that it wrote', () => {
    expect(client('192.0.2.7', { host: 'registry.example:5000' })).to.deep.equal({
      address: '192.0.2.7',
      origin: 'http://registry.example:5000',
      secure: false,
    });
    expect(client('::ffff:192.0.2.7', { host: '[::1]:5000' }, '', true)).to.deep.equal({
      address: '192.0.2.7',
      origin: 'https://[::1]:5000',
      secure: true,
    });
    expect(client('192.0.2.7', {}).origin).to.equal('http://127.0.0.1:5000');
  });

  it('is never what an untrusted peer says', () => {
    const headers = {
      host: 'registry.example',
      'x-forwarded-for': '203.0.113.9',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'evil.example',
    };
    expect(client('192.0.2.7', headers)).to.deep.equal({
      address: '192.0.2.7',
      origin: 'http://registry.example',
      secure: false,
    });
  });

  it('is whom the last trusted proxy saw', () => {
    const headers = {
      host: 'inner:5000',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'registry.example',
    };
    for (const [chain, address] of [
      ['203.0.113.9', '203.0.113.9'],
      ['1.2.3.4, 203.0.113.9', '203.0.113.9'],
      ['1.2.3.4, 203.0.113.9, 10.1.1.1', '203.0.113.9'],
      ['2001:db8::1, 10.1.1.1', '2001:db8::1'],
      ['nonsense', '10.0.0.1'],
      ['203.0.113.9, nonsense', '10.0.0.1'],
      ['', '10.0.0.1'],
      ['10.2.2.2', '10.2.2.2'],
    ] as const)
      expect(client('10.0.0.1', { ...headers, 'x-forwarded-for': chain }), chain).to.deep.equal({
        address,
        origin: 'https://registry.example',
        secure: true,
      });
    expect(client('fd00::1', { ...headers, 'x-forwarded-for': '203.0.113.9' }).address).to.equal('203.0.113.9');
  });

  it('writes to the public address where one is set', () => {
    const { origin, secure } = client('192.0.2.7', { host: 'inner' }, 'https://weights.example');
    expect(origin).to.equal('https://weights.example');
    expect(secure).to.equal(true);
  });

  it('can not write into a header by the host that it names', () => {
    for (const host of ['a"b', 'a b', 'a,b', 'a/b', 'a\\b', 'a@b', 'a:b', ''])
      expect(client('192.0.2.7', { host }).origin, host).to.equal('http://127.0.0.1:5000');
  });
});
