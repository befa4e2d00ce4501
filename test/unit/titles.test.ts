import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';

const TESTS = fileURLToPath(new URL('../../../test/', import.meta.url));

describe('the titles of tests', () => {
  it('are used once each', async () => {
    const seen = new Map<string, string>();
    const twice: string[] = [];
    const files = (await readdir(TESTS, { recursive: true })).filter((name) => name.endsWith('.test.ts'));
    for (const file of files) {
      const source = await readFile(join(TESTS, file), 'utf8');
      const suite = /\bdescribe\(\s*(['"`])(.+?)\1/.exec(source)?.[2] ?? file;
      for (const match of source.matchAll(/^\s*it\(\s*(['"`])(.+?)\1/gm)) {
        const title = `${suite}: ${match[2]}`;
        if (!title.includes('${') && seen.has(title)) twice.push(`${title} (${file}, ${seen.get(title)})`);
        seen.set(title, file);
      }
    }
    expect(seen.size).to.be.greaterThan(100);
    expect(twice).to.deep.equal([]);
  });
});
