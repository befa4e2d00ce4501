import { Ajv2020 } from 'ajv/dist/2020.js';
import { fullFormats } from 'ajv-formats/dist/formats.js';
import type { ContractDocument } from './contract.js';
import { RULE } from './issues.js';

/** An ajv that knows the document as `key`. It compiles what it is asked for, and only then. */
export function createAjv(document: ContractDocument, key: string): Ajv2020 {
  const ajv = new Ajv2020({
    strict: true,
    // `anyOf: [{required: [a]}, {required: [b]}]` is how "one of them" is said; a test knows that the names are there.
    strictRequired: false,
    allowUnionTypes: true,
    allErrors: true,
    verbose: true,
    // A test does this once for all.
    validateSchema: false,
    formats: {
      uuid: fullFormats.uuid,
      date: fullFormats.date,
      'date-time': { type: 'string', validate: isTime },
      binary: true,
    },
  });
  // What the document has beside schemas.
  ajv.addVocabulary([...Object.keys(document), RULE]);
  ajv.addSchema(document, key);
  return ajv;
}

const fullTime = fullFormats['date-time'] as { validate: (text: string) => boolean };

/** RFC 3339 without what neither Date nor PostgreSQL can hold: leap seconds, the year 0. */
function isTime(text: string): boolean {
  return fullTime.validate(text) && Number.isFinite(Date.parse(text)) && !text.startsWith('0000');
}
