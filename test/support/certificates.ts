// A private CA and certificates of it, made by openssl in a folder of the test.
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const openssl = (...parameters: string[]) => promisify(execFile)('openssl', parameters);
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** A certificate for 127.0.0.1 and localhost, and its key, as paths of files. */
export interface IssuedCertificate {
  readonly cert: string;
  readonly key: string;
  /** As Node shows it: hexadecimal digits in capitals. */
  readonly serial: string;
}

export class PrivateAuthority {
  #issued = 0;

  private constructor(
    readonly folder: string,
    /** The file that clients are given to trust. */
    readonly file: string,
    /** Its contents. */
    readonly pem: string,
  ) {}

  /** Makes one whose files lie in `folder`. */
  static async make(folder: string): Promise<PrivateAuthority> {
    const file = join(folder, 'ca.pem');
    const subject = ['-subj', '/CN=Private CA of a test', '-days', '2'];
    await openssl('req', '-x509', ...NEW_KEY, '-keyout', join(folder, 'ca-key.pem'), '-out', file, ...subject);
    return new PrivateAuthority(folder, file, await readFile(file, 'utf8'));
  }

  /** Each certificate has a serial number of its own. */
  async issue(): Promise<IssuedCertificate> {
    this.#issued += 1;
    const path = (name: string) => join(this.folder, `${name}-${this.#issued}.pem`);
    const [request, extensions, cert, key] = [path('request'), path('extensions'), path('cert'), path('key')];
    await writeFile(extensions, 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n');
    await openssl('req', '-new', ...NEW_KEY, '-subj', '/CN=localhost', '-keyout', key, '-out', request);
    const signer = ['-CA', this.file, '-CAkey', join(this.folder, 'ca-key.pem'), '-CAcreateserial'];
    await openssl('x509', '-req', '-in', request, ...signer, '-days', '2', '-extfile', extensions, '-out', cert);
    return { cert, key, serial: new X509Certificate(await readFile(cert)).serialNumber };
  }
}
