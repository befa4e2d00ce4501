import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Scenario } from './scenario.js';

/** The Python programs lie beside the sources, since tsc doesn't copy them. */
const fixtures = fileURLToPath(new URL('../../../../test/clients/fixtures/', import.meta.url));

export const fixture = (name: string): string => join(fixtures, name);

/** Two real model files and a config, by the packages that people make them with. */
export async function writeModels(scenario: Scenario, folder: string): Promise<void> {
  await scenario.run('oras-py', ['-B', fixture('models.py'), folder]);
}
