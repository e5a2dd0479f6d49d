// From one state of the table to another as one `nft -f -` transaction of only what differs. The order is what the kernel wants:
// nothing may name what is not there yet, and nothing may go that is still named; so declarations and emptied chains first,
// elements out, rules in, elements in, and what nobody names any more last.

import type { IpFamily } from "../../base/ip.ts";
import { sameLines } from "../iptables/renderer.ts";
import type { Rules, Transaction } from "../service-rules.ts";
import { fixedComments, ipWord, tableName } from "./fixed.ts";
import { isHook, type Piece, parsePiece, tablePiece } from "./pieces.ts";

/** Elements in one `add element` or `delete element` line. */
const elementsPerLine = 200;

/** Deletions begin with these words: kernels before 6.2 may refuse them for a moment (`nftables.ts`). */
export const deletions = ["delete chain ", "delete set ", "delete map "] as const;

/** See `ServiceRules.difference`; `names` limits the work to these pieces. */
export function difference(family: IpFamily, now: Rules, wanted: Rules, names?: Iterable<string>): Transaction {
  const changed: Change[] = [];
  for (const name of names ?? new Set([...now.keys(), ...wanted.keys()])) {
    const before = now.get(name);
    const after = wanted.get(name);
    if (before === after || (before && after && sameLines(before, after))) continue;
    changed.push({ name, piece: parsePiece(name), before, after });
  }
  if (changed.length === 0) return { text: "", pieces: 0 };
  const table = `${ipWord(family)} ${tableName}`;
  if (!wanted.has(tablePiece)) return { text: `delete table ${table}\n`, pieces: changed.length };
  if (now.has(tablePiece) && changed.some(mustBeMadeAnew)) {
    const whole = difference(family, new Map(), wanted);
    return { text: `delete table ${table}\n${whole.text}`, pieces: whole.pieces };
  }
  return {
    text: `${changes(table, [...changed, ...rewritten(changed, wanted)]).join("\n")}\n`,
    pieces: changed.length,
  };
}

interface Change {
  readonly name: string;
  readonly piece: Piece;
  readonly before: readonly string[] | undefined;
  readonly after: readonly string[] | undefined;
}

/** Somebody made another thing under one of our names: a type or a hook cannot be changed in place. */
function mustBeMadeAnew({ piece, before, after }: Change): boolean {
  if (!before || !after) return false;
  if (piece.kind === "chain") return before[0] !== after[0] && (isHook(before[0]) || isHook(after[0]));
  return (piece.kind === "set" || piece.kind === "map") && before[0] !== after[0];
}

/** A set whose timeout changes is made anew, and so are the rules that name it: they are written again as they were. */
function rewritten(changed: readonly Change[], wanted: Rules): Change[] {
  const sets = changed.flatMap(({ piece, before, after }) =>
    piece.kind === "set" && before && after ? [piece.name] : [],
  );
  if (sets.length === 0) return [];
  const known = new Set(changed.map(({ name }) => name));
  const list: Change[] = [];
  for (const [name, lines] of wanted) {
    if (!name.startsWith("chain ") || known.has(name)) continue;
    if (!lines.some((line) => sets.some((set) => line.includes(`@${set} `)))) continue;
    list.push({ name, piece: parsePiece(name), before: lines, after: lines });
  }
  return list;
}

function changes(table: string, changed: readonly Change[]): readonly string[] {
  const declared: string[] = [];
  const flushed: string[] = [];
  const remade: string[] = [];
  const rules: string[] = [];
  const removed: string[] = [];
  const gone = new Elements("delete", table);
  const come = new Elements("add", table);
  for (const { name, piece, before, after } of changed) {
    if (piece.kind === "table") declared.unshift(`add table ${table}${braces([], name)}`);
    else if (piece.kind === "element") {
      // The elements of a set that goes, go with it.
      if (before) gone.add(piece.set, piece.key);
      if (after) come.add(piece.set, after[0]!);
    } else if (piece.kind === "chain") {
      const object = `chain ${table} ${piece.name}`;
      const hook = isHook(after?.[0]);
      if (before) flushed.push(`flush ${object}`);
      else declared.push(`add ${object}${braces(hook ? [after![0]!] : [], name)}`);
      if (!after) removed.push(`delete ${object}`);
      for (const line of after?.slice(hook ? 1 : 0) ?? []) rules.push(`add rule ${table} ${piece.name} ${line}`);
    } else {
      const object = `${piece.kind} ${table} ${piece.name}`;
      const statements = (after ?? []).map((line) => `${line};`);
      if (after?.some((line) => line.startsWith("timeout "))) statements.splice(1, 0, "flags dynamic,timeout;");
      if (before && after) remade.push(`delete ${object}`, `add ${object}${braces(statements, name)}`);
      else if (after) declared.push(`add ${object}${braces(statements, name)}`);
      // Deleted last, and after the chains whose rules name it.
      else removed.push(`delete ${object}`);
    }
  }
  removed.sort((a, b) => Number(!a.startsWith("delete chain ")) - Number(!b.startsWith("delete chain ")));
  // A chain's rules may name chains that are declared later in the list, but not ones that are not declared at all.
  return [...declared, ...flushed, ...remade, ...gone.lines(), ...rules, ...come.lines(), ...removed];
}

function braces(statements: readonly string[], name: string): string {
  const comment = fixedComments[name];
  const all = comment === undefined ? statements : [...statements, `comment "${comment}";`];
  return all.length > 0 ? ` { ${all.join(" ")} }` : "";
}

class Elements {
  readonly #verb: string;
  readonly #table: string;
  readonly #sets = new Map<string, string[]>();

  constructor(verb: "add" | "delete", table: string) {
    this.#verb = verb;
    this.#table = table;
  }

  add(set: string, element: string): void {
    const list = this.#sets.get(set);
    if (list) list.push(element);
    else this.#sets.set(set, [element]);
  }

  lines(): string[] {
    const lines: string[] = [];
    for (const [set, all] of this.#sets) {
      for (let at = 0; at < all.length; at += elementsPerLine) {
        const part = all.slice(at, at + elementsPerLine).join(", ");
        lines.push(`${this.#verb} element ${this.#table} ${set} { ${part} }`);
      }
    }
    return lines;
  }
}
