// As much of PromQL as it takes to know which metrics and labels an expression mentions.

export interface Mention {
  readonly metric: string;
  /** Labels in its braces, with the value where it must be equal to one. */
  readonly labels: readonly { readonly name: string; readonly equals: string | undefined }[];
}

export interface Mentions {
  readonly metrics: readonly Mention[];
  /** Labels in `by (…)` and its like. */
  readonly grouped: readonly string[];
}

const WORDS = new Set(['and', 'or', 'unless', 'bool', 'offset', 'inf', 'nan']);
const LISTS = new Set(['by', 'without', 'on', 'ignoring', 'group_left', 'group_right']);

/** Reads an expression. Grafana's variables count as values. */
export function mentionsOf(expression: string): Mentions {
  const metrics: Mention[] = [];
  const grouped: string[] = [];
  const tokens = [...expression.matchAll(/"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[A-Za-z_:][\w:]*|\d[\w.]*|=~|!~|!=|[^\s]/g)].map(
    ([token]) => token,
  );
  for (let at = 0; at < tokens.length; at++) {
    const token = tokens[at] ?? '';
    if (!/^[A-Za-z_:]/.test(token) || WORDS.has(token)) continue;
    if (LISTS.has(token)) {
      if (tokens[at + 1] !== '(') continue;
      for (at += 2; tokens[at] !== ')'; at++) if (tokens[at] !== ',') grouped.push(tokens[at] ?? '');
      continue;
    }
    const next = tokens[at + 1] ?? '';
    // What a list or a parenthesis follows is a function.
    if (next === '(' || LISTS.has(next)) continue;
    const labels: { name: string; equals: string | undefined }[] = [];
    if (next === '{') {
      for (at += 2; tokens[at] !== '}'; at++) {
        if (tokens[at] === ',') continue;
        const [name = '', operator, value = ''] = tokens.slice(at, at + 3);
        labels.push({ name, equals: operator === '=' ? value.slice(1, -1) : undefined });
        at += 2;
      }
    }
    metrics.push({ metric: token, labels });
  }
  return { metrics, grouped };
}
