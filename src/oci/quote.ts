const longest = 80;

/** What a client sent, quoted for a message: escaped, and cut to 80 characters so that no error grows with its input. */
export function quote(text: string): string {
  return JSON.stringify(text.length > longest ? `${text.slice(0, longest)}…` : text);
}
