// In a run by over-tls.sh the same scenarios go over TLS, with a certificate of a private CA; else over plain HTTP.
import { join } from 'node:path';

const folder = process.env.CLIENTS_TLS;
const authority = folder === undefined ? '' : join(folder, 'ca.pem');

export const overTls = folder !== undefined;
export const scheme = overTls ? 'https' : 'http';
/** The name or address under which clients reach what listens on `listenAddress`. */
export const hostName = process.env.CLIENTS_NAME ?? '127.0.0.1';
/** All addresses only where nobody else can reach them. */
export const listenAddress = overTls ? '0.0.0.0' : '127.0.0.1';

export const certificateFiles =
  folder === undefined ? undefined : { cert: join(folder, 'registry.pem'), key: join(folder, 'registry.key') };

export const registrySettings: Readonly<Record<string, string>> =
  certificateFiles === undefined
    ? {}
    : { REGISTRY_TLS_CERT: certificateFiles.cert, REGISTRY_TLS_KEY: certificateFiles.key };

/** By which programs in Go, Python and curl get to know the CA. */
export const clientSettings: Readonly<Record<string, string>> = overTls
  ? { SSL_CERT_FILE: authority, REQUESTS_CA_BUNDLE: authority, CURL_CA_BUNDLE: authority }
  : {};

const careless = new Set([
  '--plain-http',
  '--from-plain-http',
  '--to-plain-http',
  '--allow-http-registry',
  '--insecure-registry',
  '--insecure',
  '--tls=disabled',
  '--tls-verify=false',
  '--src-tls-verify=false',
  '--dest-tls-verify=false',
]);

/** Over TLS clients have to do without the flags by which scenarios let them use plain HTTP. */
export function withCare(args: readonly string[]): string[] {
  return args.filter((arg) => !(overTls && careless.has(arg)));
}
