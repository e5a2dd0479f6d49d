// `iptables-save` read back: our chains with their rules in the form that `render` writes. Other people's chains and rules
// are not looked at, but for our jumps in the built-in chains.

import type { Rules } from "../service-rules.ts";
import { canaryChain } from "./fixed-chains.ts";

const ownChains: Readonly<Record<string, ReadonlySet<string>>> = {
  mangle: new Set([canaryChain]),
  filter: new Set([
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
    "KUBE-FIREWALL",
    canaryChain,
  ]),
  nat: new Set(["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", canaryChain]),
};

/** Whether a chain is one that this backend makes. */
export function isOwnChain(table: string, chain: string): boolean {
  return (ownChains[table]?.has(chain) ?? false) || (table === "nat" && /^KUBE-(SVC|SVL|EXT|FW|SEP)-/.test(chain));
}

/** Parses the output of `iptables-save` (all tables or some; nft or legacy; with or without counters). */
export function parseSave(text: string): Rules {
  const rules = new Map<string, string[]>();
  let table = "";
  const linesOf = (chain: string) => {
    const name = `${table}/${chain}`;
    let lines = rules.get(name);
    if (!lines) {
      lines = [];
      rules.set(name, lines);
    }
    return lines;
  };
  for (const raw of text.split("\n")) {
    const line = raw.startsWith("[") ? raw.slice(raw.indexOf("]") + 2) : raw;
    if (line.startsWith("*")) table = line.slice(1).trim();
    else if (line.startsWith(":")) {
      const chain = line.slice(1, line.indexOf(" "));
      if (isOwnChain(table, chain)) linesOf(chain);
    } else if (line.startsWith("-A ")) {
      const space = line.indexOf(" ", 3);
      const chain = line.slice(3, space < 0 ? undefined : space);
      const rule = space < 0 ? "" : normaliseRule(line.slice(space + 1));
      if (isOwnChain(table, chain)) linesOf(chain).push(rule);
      else {
        const target = / ?-j (\S+)$/.exec(` ${rule}`)?.[1];
        if (target !== undefined && isOwnChain(table, target)) linesOf(chain).push(rule);
      }
    }
  }
  return rules;
}

/** Takes out what tools print differently: doubled spaces outside of quotes, and quotes that were not needed. */
export function normaliseRule(rule: string): string {
  return rule
    .trimEnd()
    .replace(/("[^"]*")|\s+/g, (_all, quoted: string | undefined) => quoted ?? " ")
    .replace(/--comment ([^\s"]+)/g, '--comment "$1"');
}
