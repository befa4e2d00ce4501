import { RegistryError } from '../errors.js';
import type { Digest } from '../oci/digest.js';

/** There is no such session, or it has expired. */
export function unknownUpload(id: string): RegistryError {
  return new RegistryError('UploadUnknown', 'no such upload in this repository, or it has ended', {
    detail: { upload: id },
  });
}

/** The bytes begin at `begin`, but the session stands at `offset`, which the client is told. */
export function outOfOrder(begin: number, offset: number): RegistryError {
  return new RegistryError(
    'UploadOutOfOrder',
    `the chunk begins at byte ${begin}, but the upload stands at byte ${offset}`,
    { detail: { offset } },
  );
}

/** The writer lost its session: to a later request, a cancel, the expiry, or a commit. */
export function takenUpload(): RegistryError {
  return new RegistryError(
    'UploadTaken',
    'another request took over this upload; ask for its offset and go on from there',
  );
}

/** The session has ended well. */
export function committedUpload(): RegistryError {
  return new RegistryError('UploadUnknown', 'this upload is already committed');
}

/** @param actual the digest that the bytes have. */
export function wrongDigest(wanted: Digest, actual: Digest): RegistryError {
  return new RegistryError('DigestInvalid', 'the uploaded bytes do not have this digest', {
    detail: { digest: wanted, uploaded: actual },
  });
}
