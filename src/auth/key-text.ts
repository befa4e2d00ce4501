import { randomBytes } from 'node:crypto';

/** What bcrypt looks at; longer secrets would be cut without a word. */
export const MAX_SECRET_BYTES = 72;

/** A key as its holder presents it: `wh_<id>_<secret>`, or any other text, which is the secret of the key `admin`. */
export interface PresentedKey {
  readonly id: string;
  readonly secret: string;
}

const WRITTEN = /^wh_([a-z0-9]{1,32})_(.+)$/s;
const ID_LETTERS = 'abcdefghijklmnopqrstuvwxyz234567';

/** Takes a key apart. An operator's own choice (REGISTRY_ADMIN_KEY) has no id in it and belongs to `admin`. */
export function parseKey(text: string): PresentedKey {
  const match = WRITTEN.exec(text);
  return match?.[1] && match[2] ? { id: match[1], secret: match[2] } : { id: 'admin', secret: text };
}

/** A new key of the id with 192 random bits. */
export function newKey(id: string): string {
  return `wh_${id}_${randomBytes(24).toString('base64url')}`;
}

/** A new id of a key: 12 letters and digits, 60 random bits. */
export function newKeyId(): string {
  return Array.from(randomBytes(12), (byte) => ID_LETTERS[byte % ID_LETTERS.length]).join('');
}
