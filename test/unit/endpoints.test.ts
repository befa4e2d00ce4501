import { access, readFile } from 'node:fs/promises';
import { expect } from 'chai';

const ROOT = new URL('../../../', import.meta.url);

describe('spec/endpoints.md', () => {
  it('lists exactly the routes that there are', async () => {
    const doors = await Promise.all(
      ['oci', 'token', 'ops', 'api'].map((door) => readFile(new URL(`src/http/${door}/routes.ts`, ROOT), 'utf8')),
    );
    const routes = doors.join('\n');
    const page = await readFile(new URL('spec/endpoints.md', ROOT), 'utf8');
    const made = [...routes.matchAll(/router\.(get|post|patch|put|delete)\(\s*'([^']+)'/g)].map(
      ([, method, path]) => `${method?.toUpperCase()} ${path?.replace(/(:\w+)?\{\/\}$/, (_, last) => last ?? '/')}`,
    );
    const listed = [...page.matchAll(/^\|[^|]*\| `([A-Z]+ [^`]+)`/gm)].map(([, endpoint]) => endpoint);
    expect(made.length).to.be.greaterThan(60);
    expect(listed.sort()).to.deep.equal(made.sort());
  });

  it('names tests that there are', async () => {
    const page = await readFile(new URL('spec/endpoints.md', ROOT), 'utf8');
    for (const [, path] of page.matchAll(/`(test\/[^`]+)`/g)) await access(new URL(path ?? '', ROOT));
  });
});
