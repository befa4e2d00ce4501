import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { loadContract } from '../../../src/commands/contract-files.js';

const ROUTES = new URL('../../../../src/http/api/routes.ts', import.meta.url);
/** The contract itself is not in the contract. */
const PAGES = ['GET /api/docs', 'GET /api/docs/:file', 'GET /api/openapi.json', 'GET /api/openapi.yaml'];

describe('the routes of the metadata API', () => {
  it('are the operations of the contract, each under its own id', async () => {
    const text = await readFile(ROUTES, 'utf8');
    const routes = [...text.matchAll(/router\.(get|post|put|patch|delete)\(\s*'([^']+)',\s*(?:operation\('(\w+)')?/g)];
    const made = routes.map(([, method = '', path, id]) => `${method.toUpperCase()} ${path}${id ? ` ${id}` : ''}`);
    const { paths } = await loadContract();
    const documented = Object.entries(paths as Record<string, Record<string, { operationId?: string }>>).flatMap(
      ([path, item]) =>
        Object.entries(item)
          .filter(([method]) => method !== 'parameters')
          .map(([method, { operationId }]) => {
            const route = `/api/v1${path.replaceAll(/\{(\w+)\}/g, ':$1')}`;
            return `${method.toUpperCase()} ${route} ${operationId}`;
          }),
    );
    expect(made.sort()).to.deep.equal([...documented, ...PAGES].sort());
  });
});
