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
const kinds = ["FW", "EXT", "SVC", "SVL", "SEP"] as const;

/** What own chains lead to beside each other; it leads nowhere. */
const mark = "KUBE-MARK-MASQ";

interface Chain {
  readonly name: string;
  /** Its lines of each sort, each with its newline. */
  header: string;
  rules: string;
  deletion: string;
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

/** The sections of the table that stands in `text` from `from` to `to`. A chain's lines mostly follow each other: they stay one text. */
function sectionsOf(text: string, from: number, to: number): string[] {
  const chains = new Map<string, Chain>();
  const first = text.indexOf("\n", from) + 1;
  const table = text.slice(from, first);
  let at = first;
  while (at < to) {
    const start = at;
    const sort = text[start] === ":" ? "header" : text.startsWith("-X ", start) ? "deletion" : "rules";
    const name = chainAt(text, start);
    at = text.indexOf("\n", at) + 1;
    while (sort === "rules" && at < to && !text.startsWith("-X ", at) && chainAt(text, at) === name) {
      at = text.indexOf("\n", at) + 1;
    }
    let chain = chains.get(name);
    if (!chain) {
      chain = { name, header: "", rules: "", deletion: "" };
      chains.set(name, chain);
    }
    chain[sort] += text.slice(start, at);
  }
  const all = [...chains.values()];
  const written = all.filter(({ header, deletion }) => header !== "" && deletion === "");
  const own = written.filter(({ name }) => kindOf(name) >= 0).sort((a, b) => kindOf(b.name) - kindOf(a.name));
  const gone = all.filter(({ deletion }) => deletion !== "").sort((a, b) => order(a.name) - order(b.name));
  const marks = written.filter(({ name }) => name === mark);
  const apart = new Set([...own, ...gone, ...marks]);
  const shared = all.filter((chain) => !apart.has(chain));
  return [marks, ...parts(own), shared, ...parts(gone)].map((section) => textOf(table, section));
}

/** The chain of a line `:CHAIN …`, `-A CHAIN …` or `-X CHAIN`. */
function chainAt(text: string, line: number): string {
  const from = line + (text[line] === ":" ? 1 : 3);
  let to = from;
  while (text[to] !== " " && text[to] !== "\n") to++;
  return text.slice(from, to);
}

function kindOf(name: string): number {
  return kinds.findIndex((kind) => name.startsWith(`KUBE-${kind}-`));
}

/** Chains that all share lead to own ones, and all may lead to the one that marks. */
function order(name: string): number {
  return name === mark ? kinds.length : kindOf(name);
}

function parts(chains: readonly Chain[]): Chain[][] {
  const list: Chain[][] = [];
  for (let at = 0; at < chains.length; at += most) list.push(chains.slice(at, at + most));
  return list;
}

function textOf(table: string, section: readonly Chain[]): string {
  if (section.length === 0) return "";
  const of = (sort: "header" | "rules" | "deletion") => section.map((chain) => chain[sort]).join("");
  return `${table}${of("header")}${of("rules")}${of("deletion")}COMMIT\n`;
}
