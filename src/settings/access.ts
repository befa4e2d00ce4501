import { DAY, text, integer, choice, origins } from './kinds.js';

/** Who may do what. */
export const accessSettings = {
  adminKey: text(
    'REGISTRY_ADMIN_KEY',
    '',
    'The admin key, for an operator who wants to choose it (12 to 72 bytes); empty: one is made at the first start and kept in <data>/admin-key.',
    /^$|^[\x21-\x7e]{12,72}$/,
    'empty or 12 to 72 printable ASCII characters without spaces',
  ),
  bcryptCost: integer(
    'REGISTRY_BCRYPT_COST',
    10,
    'rounds as a power of two',
    4,
    15,
    'What checking a key for the first time costs; what has passed is remembered for a minute.',
  ),
  anonymous: choice(
    'REGISTRY_ANONYMOUS',
    ['none', 'pull', 'push'],
    'What may be done without a key in repositories that are neither public nor private: nothing, pull, or pull and push (for closed networks).',
  ),
  tokenLifetime: integer(
    'REGISTRY_TOKEN_LIFETIME',
    300,
    'seconds',
    1,
    DAY,
    'How long a token of the token endpoint is good; a longer upload is not broken off.',
  ),
  refreshTokenLifetime: integer(
    'REGISTRY_REFRESH_TOKEN_LIFETIME',
    30 * DAY,
    'seconds',
    60,
    365 * DAY,
    'How long a refresh token is good (docker login keeps one).',
  ),
  signingKeyLifetime: integer(
    'REGISTRY_SIGNING_KEY_LIFETIME',
    7 * DAY,
    'seconds',
    1,
    365 * DAY,
    'After this a new key signs tokens; the former ones are kept until what they signed has expired.',
  ),
  oidcFile: text(
    'REGISTRY_OIDC_FILE',
    '',
    'A JSON file of OIDC issuers whose tokens are accepted, and the rules that map claims to grants; see docs/oidc.md. Read again on SIGHUP.',
  ),
  corsOrigins: origins(
    'REGISTRY_CORS_ORIGINS',
    'Sites whose pages may use the metadata API from a browser, such as https://models.example.com; * for all, but then without credentials of the browser.',
  ),
  authFailuresPerAddress: integer(
    'REGISTRY_AUTH_FAILURES_PER_ADDRESS',
    60,
    'attempts a minute',
    1,
    1_000_000,
    'Failed log-ins from one address (IPv6: /64), also with forged tokens, before further ones are answered 429, on each node.',
  ),
  authFailuresPerKey: integer(
    'REGISTRY_AUTH_FAILURES_PER_KEY',
    10,
    'attempts a minute',
    1,
    1_000_000,
    'Failed log-ins with one key id, or with forged tokens of one issuer, from one address before further ones are answered 429, on each node.',
  ),
} as const;
