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
  readonly lines: string[];
  header?: string;
  deletion?: string;
}

/** `text` is for `iptables-restore --noflush`, as `difference.ts` makes it; what is returned does the same in more transactions. */
export function inSections(text: string): string {
  const headers = text.match(/^:/gm)?.length ?? 0;
  if (headers < splitFrom) return text;
  return text
    .split("COMMIT\n")
    .filter((table) => table !== "")
    .map((table) => sectionsOf(table.trimEnd().split("\n")))
    .join("");
}

function sectionsOf([table = "", ...lines]: readonly string[]): string {
  const chains = new Map<string, Chain>();
  for (const line of lines) {
    const name = line.startsWith(":") ? line.slice(1, line.indexOf(" ")) : line.split(" ", 2)[1]!;
    let chain = chains.get(name);
    if (!chain) {
      chain = { name, lines: [] };
      chains.set(name, chain);
    }
    if (line.startsWith(":")) chain.header = line;
    else if (line.startsWith("-X ")) chain.deletion = line;
    else chain.lines.push(line);
  }
  const all = [...chains.values()];
  const written = all.filter(({ header, deletion }) => header !== undefined && deletion === undefined);
  const own = written.filter(({ name }) => kindOf(name) >= 0).sort((a, b) => kindOf(b.name) - kindOf(a.name));
  const gone = all.filter(({ deletion }) => deletion !== undefined).sort((a, b) => order(a.name) - order(b.name));
  const apart = new Set([...own, ...gone, ...written.filter(({ name }) => name === mark)]);
  const shared = all.filter((chain) => !apart.has(chain));
  return [written.filter(({ name }) => name === mark), ...parts(own), shared, ...parts(gone)]
    .map((section) => textOf(table, section))
    .join("");
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
  const lines = [
    table,
    ...section.flatMap(({ header }) => header ?? []),
    ...section.flatMap((chain) => chain.lines),
    ...section.flatMap(({ deletion }) => deletion ?? []),
    "COMMIT",
  ];
  return `${lines.join("\n")}\n`;
}
