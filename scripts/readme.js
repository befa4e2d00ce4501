// Writes the settings into README.md, as a table, and into .env.example; tests fail when they are out of date.
import { readFileSync, writeFileSync } from 'node:fs';
import { settings, settingsTable } from '../dist/src/config.js';

/** Columns of a comment in .env.example. */
const WIDTH = 118;

function rewrite(name, write) {
  const path = new URL(`../${name}`, import.meta.url);
  writeFileSync(path, write(readFileSync(path, 'utf8')));
}

/** The words as lines of a comment. */
function comment(text) {
  const lines = [''];
  for (const word of text.split(' ')) {
    if (`${lines.at(-1)} ${word}`.length > WIDTH) lines.push('');
    lines.push(`${lines.pop()} ${word}`);
  }
  return lines.map((line) => `#${line}`).join('\n');
}

rewrite('README.md', (text) => {
  const table = `<!-- settings -->\n\n${settingsTable()}\n\n<!-- /settings -->`;
  return text.replace(/<!-- settings -->[\s\S]*<!-- \/settings -->/, () => table);
});
rewrite('.env.example', (text) => {
  const blocks = Object.values(settings).map(
    ({ name, fallback, unit, about }) => `${comment(`${about} (${unit})`)}\n#${name}=${fallback}`,
  );
  const title = '# ---- Every setting of the registry, with its default ----';
  return `${text.split(/^# ---- .*/m)[0]}${title}\n\n${blocks.join('\n\n')}\n`;
});
