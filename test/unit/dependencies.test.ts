import { readFile } from 'node:fs/promises';
import { expect } from 'chai';

const ROOT = new URL('../../../', import.meta.url);

describe('docs/dependencies.md', () => {
  it('lists every production dependency in its version, and says what for and why', async () => {
    const { dependencies } = JSON.parse(await readFile(new URL('package.json', ROOT), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    const page = await readFile(new URL('docs/dependencies.md', ROOT), 'utf8');
    const rows = [...page.matchAll(/^\| `.+$/gm)].map(([line]) => line.split('|').map((cell) => cell.trim()));
    const listed = rows.map((cells) => [cells[1]?.replaceAll('`', ''), cells[2]]);
    expect(listed).to.deep.equal(Object.entries(dependencies));
    for (const cells of rows) for (const reason of cells.slice(-3, -1)) expect(reason, cells[1]).to.not.equal('');
  });
});
