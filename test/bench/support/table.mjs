// Tables in Markdown of what was measured.

export function median(numbers) {
  const sorted = numbers.filter(Number.isFinite).sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return undefined;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Rows of objects under the names of `columns`, a function each, as a table in Markdown. */
export function tableOf(columns, rows) {
  const lines = rows.map((row) => Object.values(columns).map((column) => String(column(row) ?? '')));
  const heads = Object.keys(columns);
  const widths = heads.map((head, index) => Math.max(head.length, ...lines.map((line) => line[index].length)));
  const line = (cells) => `| ${cells.map((cell, index) => cell.padEnd(widths[index])).join(' | ')} |\n`;
  return [heads, widths.map((width) => '-'.repeat(width)), ...lines].map(line).join('');
}

export function printTable(columns, rows) {
  console.log(tableOf(columns, rows));
}
