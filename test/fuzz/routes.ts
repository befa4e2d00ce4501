import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Route {
  readonly method: string;
  /** As the router has it: `/v2/*name/blobs/:digest`. */
  readonly path: string;
}

const DOORS = fileURLToPath(new URL('../../../src/http/', import.meta.url));

/** Every route of every door, read from the sources, so that a new one is fuzzed by itself. */
export async function readRoutes(): Promise<Route[]> {
  const files = (await readdir(DOORS, { recursive: true })).filter((name) => name.endsWith('.ts')).sort();
  const routes: Route[] = [];
  for (const file of files) {
    const source = await readFile(join(DOORS, file), 'utf8');
    for (const [, method = '', path = ''] of source.matchAll(/\.(get|head|post|put|patch|delete)\(\s*'(\/[^']*)'/g))
      routes.push({ method: method.toUpperCase(), path });
  }
  return routes;
}
