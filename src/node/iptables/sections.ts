// A large change in parts, for the iptables that speaks nftables: for every line of a transaction it looks through a sorted list of
// all chains that the transaction names (nft-cache.c cache_chain_list_insert, 1.8.9), so that 15,000 chains at once cost half a
// minute and in parts of a hundred a second. Nothing is flushed that is not ours, whoever else writes at the same time.
//
// Chains that a Service has of its own come first, ends before what leads to them; nothing leads to a new one yet. Then, in one
// transaction, the chains that all share: that is when packets see the change. What nobody names any more goes last. A part that
// is refused ends the whole: the caller reads what is there, and writes the rest.

/** Chains in one part. */
const most = 100;

/** Fewer chains than these are no trouble. */
const splitFrom = 4 * most;

/** What a Service's own chains lead to stands behind them. */
const kinds = ["KUBE-FW-", "KUBE-EXT-", "KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-"] as const;

/** What own chains lead to beside each other; it leads nowhere. */
const mark = "KUBE-MARK-MASQ";

/** Where a chain's lines of each sort stand in the text: beginnings and ends in turn. The text itself is large, and not copied. */
interface Chain {
  readonly name: string;
  /** Its place in {@link kinds}; -1 for chains that all share. */
  readonly kind: number;
  readonly header: number[];
  readonly rules: number[];
  readonly deletion: number[];
}

/** `text` is for `iptables-restore --noflush`, as `difference.ts` makes it; what is returned does the same in more transactions. */
export function inSections(text: string): string {
  if (!isLarge(text)) return text;
  const sections: string[] = [];
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf("COMMIT\n", at);
    sections.push(...sectionsOf(text, at, end));
    at = end + "COMMIT\n".length;
  }
  return sections.join("");
}

function isLarge(text: string): boolean {
  let headers = 0;
  for (let at = text.indexOf("\n:"); at >= 0; at = text.indexOf("\n:", at + 1)) if (++headers >= splitFrom) return true;
  return false;
}

/** The sections of the table that stands in `text` from `from` to `to`. A chain's lines mostly follow each other: they are one stretch. */
function sectionsOf(text: string, from: number, to: number): string[] {
  const chains = new Map<string, Chain>();
  const first = text.indexOf("\n", from) + 1;
  const table = text.slice(from, first);
  let at = first;
  while (at < to) {
    const start = at;
    const sort = text.startsWith(":", at) ? "header" : text.startsWith("-X ", at) ? "deletion" : "rules";
    const name = chainAt(text, at);
    do at = text.indexOf("\n", at) + 1;
    while (sort === "rules" && at < to && !text.startsWith("-X ", at) && isAbout(text, at, name));
    let chain = chains.get(name);
    if (!chain) {
      chain = { name, kind: kinds.findIndex((kind) => name.startsWith(kind)), header: [], rules: [], deletion: [] };
      chains.set(name, chain);
    }
    chain[sort].push(start, at);
  }
  const all = [...chains.values()];
  const written = all.filter(({ header, deletion }) => header.length > 0 && deletion.length === 0);
  const own = written.filter(({ kind }) => kind >= 0).sort((a, b) => b.kind - a.kind);
  const gone = all.filter(({ deletion }) => deletion.length > 0).sort((a, b) => order(a) - order(b));
  const marks = written.filter(({ name }) => name === mark);
  const apart = new Set([...own, ...gone, ...marks]);
  const shared = all.filter((chain) => !apart.has(chain));
  return [marks, ...parts(own), shared, ...parts(gone)].map((section) => textOf(text, table, section));
}

/** The chain of a line `:CHAIN …`, `-A CHAIN …` or `-X CHAIN`. */
function chainAt(text: string, line: number): string {
  const from = line + (text.startsWith(":", line) ? 1 : 3);
  let to = from;
  while (!endsName(text, to)) to++;
  return text.slice(from, to);
}

function isAbout(text: string, line: number, name: string): boolean {
  return text.startsWith(name, line + 3) && endsName(text, line + 3 + name.length);
}

function endsName(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code === 0x20 || code === 0x0a;
}

/** Chains that all share lead to own ones, and all may lead to the one that marks. */
function order({ name, kind }: Chain): number {
  return name === mark ? kinds.length : kind;
}

function parts(chains: readonly Chain[]): Chain[][] {
  const list: Chain[][] = [];
  for (let at = 0; at < chains.length; at += most) list.push(chains.slice(at, at + most));
  return list;
}

function textOf(text: string, table: string, section: readonly Chain[]): string {
  if (section.length === 0) return "";
  const stretches: string[] = [];
  for (const sort of ["header", "rules", "deletion"] as const) {
    for (const { [sort]: ends } of section) {
      for (let n = 0; n < ends.length; n += 2) stretches.push(text.slice(ends[n], ends[n + 1]));
    }
  }
  return `${table}${stretches.join("")}COMMIT\n`;
}
