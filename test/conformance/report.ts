export type Status = 'Pass' | 'FAIL' | 'Error' | 'Skip' | 'Disabled' | 'Unknown';

export interface Result {
  name: string;
  status: Status;
  complaints: string[];
}

export interface Report {
  /** How many checks the program counted by status; it makes several at some leaves. */
  counts: Map<string, number>;
  /** The single tests: the leaves of the program's tree. */
  tests: Result[];
  /** The program's own verdict on each API and each kind of data. */
  verdicts: Result[];
}

/** Reads what the conformance program prints: a tree indented by two, complaints under its leaves, then a summary. */
export function readReport(text: string): Report {
  const tests: (Result & { depth: number })[] = [];
  const verdicts: Result[] = [];
  const counts = new Map<string, number>();
  let section = '';
  for (const line of text.split('\n')) {
    const node = /^( *)(OCI Conformance Test.*): (Pass|FAIL|Error|Skip|Disabled|Unknown)$/.exec(line);
    const verdict = /^ {2}(.+?)\.*: +(Pass|FAIL|Error|Skip|Disabled|Unknown)$/.exec(line);
    const count = /^ {2}(Disabled|Skip|Pass|FAIL|Error|Total)\.+: +(\d+)$/.exec(line);
    if (count !== null) {
      counts.set(count[1] ?? '', Number(count[2]));
    } else if (node !== null) {
      const [, indent = '', name = '', status] = node;
      // A node that is followed by a deeper one was no leaf.
      if ((tests.at(-1)?.depth ?? Number.POSITIVE_INFINITY) < indent.length) tests.pop();
      tests.push({ name, status: status as Status, complaints: [], depth: indent.length });
    } else if (/^(API|Data) conformance:$/.test(line)) {
      section = line.slice(0, line.indexOf(' '));
    } else if (section !== '' && verdict !== null) {
      verdicts.push({ name: `${section}: ${verdict[1]}`, status: verdict[2] as Status, complaints: [] });
    } else if (section === '' && tests.length > 0) {
      tests.at(-1)?.complaints.push(line.trim());
    }
  }
  return { counts, tests: tests.map(({ name, status, complaints }) => ({ name, status, complaints })), verdicts };
}
