// `nft -j list table` read back into pieces, in the spelling of `render.ts`. Comments of fixed objects are left out, because not
// every nft shows them; what clients an affinity set remembers is no part of the rules.

import type { Rules } from "../service-rules.ts";
import { ruleText, valueText, verdictText } from "./expression.ts";
import { chainPiece, elementPiece, mapPiece, setPiece, tablePiece } from "./pieces.ts";

interface ListedSet {
  readonly name: string;
  readonly type: string | readonly string[];
  /** Of a map: what it leads to. */
  readonly map?: string;
  readonly flags?: string | readonly string[];
  readonly timeout?: number;
  readonly elem?: readonly unknown[];
}

interface ListedChain {
  readonly name: string;
  readonly type?: string;
  readonly hook?: string;
  readonly prio?: number;
  readonly policy?: string;
}

interface ListedRule {
  readonly chain: string;
  readonly comment?: string;
  readonly expr?: readonly unknown[];
}

interface Listed {
  readonly table?: unknown;
  readonly set?: ListedSet;
  readonly map?: ListedSet;
  readonly chain?: ListedChain;
  readonly rule?: ListedRule;
}

/** Parses the output of `nft -j list table`. Throws when it is no JSON. */
export function parseListing(text: string): Rules {
  const rules = new Map<string, string[]>();
  const { nftables = [] } = JSON.parse(text) as { nftables?: readonly Listed[] };
  for (const { table, set, map, chain, rule } of nftables) {
    if (table) rules.set(tablePiece, []);
    else if (set) addSet(rules, setPiece(set.name), set);
    else if (map) addSet(rules, mapPiece(map.name), map);
    else if (chain) rules.set(chainPiece(chain.name), hookOf(chain));
    else if (rule) rules.get(chainPiece(rule.chain))?.push(ruleText(rule.expr ?? [], rule.comment));
  }
  return rules;
}

function hookOf({ type, hook, prio, policy }: ListedChain): string[] {
  return type === undefined ? [] : [`type ${type} hook ${hook} priority ${prio}; policy ${policy};`];
}

function addSet(rules: Map<string, string[]>, piece: string, set: ListedSet): void {
  const type = typeof set.type === "string" ? set.type : set.type.join(" . ");
  const lines = [`type ${type}${set.map === undefined ? "" : ` : ${set.map}`}`];
  if (set.timeout !== undefined) lines.push(`timeout ${set.timeout}s`);
  rules.set(piece, lines);
  if (set.timeout !== undefined || set.flags?.includes("dynamic")) return;
  for (const element of set.elem ?? []) {
    const [key, verdict] = set.map !== undefined && Array.isArray(element) ? element : [element];
    const { text, comment } = keyOf(key);
    const shown = comment === undefined ? text : `${text} comment "${comment}"`;
    rules.set(elementPiece(set.name, text), [verdict === undefined ? shown : `${shown} : ${verdictText(verdict)}`]);
  }
}

function keyOf(key: unknown): { text: string; comment: string | undefined } {
  if (typeof key === "object" && key !== null && "elem" in key) {
    const { val, comment } = key.elem as { val: unknown; comment?: string };
    return { text: valueText(val), comment };
  }
  return { text: valueText(key), comment: undefined };
}
