// Writes the table of settings into README.md; a test fails when it is out of date.
import { readFileSync, writeFileSync } from 'node:fs';
import { settingsTable } from '../dist/src/config.js';

const path = new URL('../README.md', import.meta.url);
const text = readFileSync(path, 'utf8');
const table = `<!-- settings -->\n\n${settingsTable()}\n\n<!-- /settings -->`;
writeFileSync(
  path,
  text.replace(/<!-- settings -->[\s\S]*<!-- \/settings -->/, () => table),
);
