import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { ContractDocument } from '../http/api/contract.js';
import type { StaticFile } from '../http/api/docs.js';
import { PAGE, SCRIPT } from '../http/api/docs-page.js';

const SPEC = new URL('../../../spec/openapi.yaml', import.meta.url);

/** Reads the contract of the metadata API: a fifth of a second of work, so once, and only where it is needed. */
export async function loadContract(): Promise<ContractDocument> {
  return await parseContract(await readFile(SPEC, 'utf8'));
}

/** The contract as it is written and as JSON, and the page that shows it, with Swagger UI from its package. */
export async function loadDocs(): Promise<ReadonlyMap<string, StaticFile>> {
  const written = await readFile(SPEC);
  const { 'x-shared': _, ...document } = await parseContract(written.toString('utf8'));
  const require = createRequire(import.meta.url);
  const bundled = async (name: string) => await readFile(require.resolve(`swagger-ui-dist/${name}`));
  const html = 'text/html; charset=utf-8';
  const css = 'text/css; charset=utf-8';
  const script = 'text/javascript; charset=utf-8';
  return new Map<string, StaticFile>([
    ['openapi.yaml', { type: 'application/yaml', bytes: written }],
    ['openapi.json', { type: 'application/json', bytes: Buffer.from(JSON.stringify(document)) }],
    ['index.html', { type: html, bytes: Buffer.from(PAGE) }],
    ['docs.js', { type: script, bytes: Buffer.from(SCRIPT) }],
    ['swagger-ui.css', { type: css, bytes: await bundled('swagger-ui.css') }],
    ['swagger-ui-bundle.js', { type: script, bytes: await bundled('swagger-ui-bundle.js') }],
    ['favicon-32x32.png', { type: 'image/png', bytes: await bundled('favicon-32x32.png') }],
  ]);
}

async function parseContract(text: string): Promise<ContractDocument> {
  const { parse } = await import('yaml');
  // Its shared parts are merged in many times.
  return parse(text, { merge: true, maxAliasCount: -1 }) as ContractDocument;
}
