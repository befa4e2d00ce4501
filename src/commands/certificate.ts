import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { Config } from '../config.js';
import { type Certificate, secureContextOf } from '../http/tls.js';
import type { Log } from '../log.js';

/** The files are read rather than watched: what Kubernetes exchanges is a link two folders above. */
const LOOK_MS = 2_000;

type Files = Pick<Config, 'tlsCert' | 'tlsKey'>;

/**
 * The certificate of the settings; undefined: HTTP is served.
 * @throws Error in words for the operator, when a file can't be read or the pair does not fit.
 */
export async function readCertificate(files: Files): Promise<Certificate | undefined> {
  if (files.tlsCert === '') return undefined;
  const pair = await readPair(files);
  check(pair, files);
  return pair;
}

async function readPair({ tlsCert, tlsKey }: Files): Promise<Certificate> {
  const read = (path: string, setting: string) =>
    readFile(path).catch((cause: unknown) => {
      throw new Error(`can't read ${path} (${setting})`, { cause });
    });
  const [cert, key] = await Promise.all([read(tlsCert, 'REGISTRY_TLS_CERT'), read(tlsKey, 'REGISTRY_TLS_KEY')]);
  return { cert, key };
}

/** @throws Error that names the setting. */
function check({ cert, key }: Certificate, { tlsCert, tlsKey }: Files): void {
  const attempt = (options: Parameters<typeof createSecureContext>[0], fault: string) => {
    try {
      createSecureContext(options);
    } catch (cause) {
      throw new Error(fault, { cause });
    }
  };
  attempt({ cert }, `${tlsCert} (REGISTRY_TLS_CERT) is no certificate in the form of PEM`);
  attempt({ key }, `${tlsKey} (REGISTRY_TLS_KEY) is no private key in the form of PEM without a passphrase`);
  attempt(
    secureContextOf({ cert, key }),
    `${tlsKey} (REGISTRY_TLS_KEY) does not belong to the certificate ${tlsCert} (REGISTRY_TLS_CERT)`,
  );
}

/**
 * Looks after the files every two seconds, as long as the process lives, and hands over each new pair that fits.
 * Contents count when they are found twice in a row: the two files are not exchanged at the same moment.
 */
export function watchCertificate(
  files: Files,
  served: Certificate,
  log: Log,
  onChange: (certificate: Certificate) => void,
): void {
  let seen: Certificate | string = served;
  let judged: Certificate | string = served;
  const look = async (): Promise<void> => {
    const found = await readPair(files).catch((error: unknown) => error as Error);
    const contents = found instanceof Error ? found.message : found;
    const settled = same(contents, seen);
    seen = contents;
    if (!settled || same(contents, judged)) return;
    judged = contents;
    try {
      if (found instanceof Error) throw found;
      check(found, files);
      onChange(found);
      const { serialNumber, validTo } = new X509Certificate(found.cert);
      log.info({ serialNumber, validTo }, 'another certificate is served');
    } catch (error) {
      log.error({ err: error }, 'the certificate was not exchanged; the former one is still served');
    }
  };
  const again = (): void => {
    setTimeout(() => void look().then(again), LOOK_MS).unref();
  };
  again();
}

function same(a: Certificate | string, b: Certificate | string): boolean {
  if (typeof a === 'string' || typeof b === 'string') return a === b;
  return a.cert.equals(b.cert) && a.key.equals(b.key);
}
