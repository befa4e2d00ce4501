import { Ajv, type JSONSchemaType } from 'ajv';
import { RegistryError } from '../errors.js';
import { type Grant, parseGrants } from './grants.js';

/** What the claims of a token must be for its holder to get grants. */
export interface ClaimRule {
  /** Every claim named here must match, `*` standing for any characters; of a list one member. Dots reach into objects. */
  readonly claims: Readonly<Record<string, string>>;
  readonly grants: readonly Grant[];
}

/** An issuer whose tokens are accepted. */
export interface OidcIssuer {
  /** A short name for logs: the actor is `oidc:<name>:<sub>`. */
  readonly name: string;
  /** Exactly as in the claim `iss`. */
  readonly issuer: string;
  /** What `aud` must hold. */
  readonly audience: string;
  /** Where its keys are; undefined: its discovery document tells. */
  readonly jwksUri: string | undefined;
  readonly rules: readonly ClaimRule[];
}

interface Written {
  issuers: {
    name: string;
    issuer: string;
    audience: string;
    jwks_uri?: string;
    rules: { claims: Record<string, string>; grants: object[] }[];
  }[];
}

const schema: JSONSchemaType<Written> = {
  type: 'object',
  required: ['issuers'],
  additionalProperties: false,
  properties: {
    issuers: {
      type: 'array',
      items: {
        type: 'object',
        required: ['name', 'issuer', 'audience', 'rules'],
        additionalProperties: false,
        properties: {
          name: { type: 'string', pattern: '^[a-z0-9-]{1,32}$' },
          issuer: { type: 'string', pattern: '^https?://' },
          audience: { type: 'string', minLength: 1 },
          jwks_uri: { type: 'string', pattern: '^https?://', nullable: true },
          rules: {
            type: 'array',
            items: {
              type: 'object',
              required: ['claims', 'grants'],
              additionalProperties: false,
              properties: {
                claims: { type: 'object', required: [], minProperties: 1, additionalProperties: { type: 'string' } },
                grants: { type: 'array', minItems: 1, items: { type: 'object' } },
              },
            },
          },
        },
      },
    },
  },
};

/**
 * Reads the file of issuers (docs/oidc.md).
 * @throws Error that names every field that is wrong.
 */
export function parseOidcSettings(text: string): OidcIssuer[] {
  const value: unknown = JSON.parse(text);
  const ajv = new Ajv({ allErrors: true, strict: true });
  const validate = ajv.compile(schema);
  if (!validate(value)) throw new Error(ajv.errorsText(validate.errors, { dataVar: 'the file', separator: '; ' }));
  const seen = new Set<string>();
  return value.issuers.map((written) => {
    for (const unique of [written.name, written.issuer]) {
      if (seen.has(unique)) throw new Error(`${unique} is there twice`);
      seen.add(unique);
    }
    const rules = written.rules.map((rule, index) => {
      try {
        return { claims: rule.claims, grants: parseGrants(rule.grants) };
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        throw new Error(`issuer ${written.name}, rules[${index}]: ${error.message}`, { cause: error });
      }
    });
    const { name, issuer, audience, jwks_uri: jwksUri } = written;
    return { name, issuer, audience, jwksUri, rules };
  });
}
