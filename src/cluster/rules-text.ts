// The iptables backend's rules as `iptables-save` prints them: tables, chains with policies, rules, COMMIT. iptables-restore takes
// the same text.

import type { Rules } from "../node/service-rules.ts";

/** The tables that have rules of ours, with the chains that each has from the start. */
const tables: Readonly<Record<string, readonly string[]>> = {
  mangle: ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
  filter: ["INPUT", "FORWARD", "OUTPUT"],
  nat: ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
};

/** `rules` has `table/chain` as names. Chains stand sorted, rules in their order. */
export function iptablesSaveText(rules: Rules): string {
  const lines: string[] = [];
  for (const [table, builtIn] of Object.entries(tables)) {
    const own = [...rules.keys()]
      .filter((name) => name.startsWith(`${table}/`))
      .map((name) => name.slice(table.length + 1))
      .filter((chain) => !builtIn.includes(chain))
      .sort();
    lines.push(
      `*${table}`,
      ...builtIn.map((chain) => `:${chain} ACCEPT [0:0]`),
      ...own.map((chain) => `:${chain} - [0:0]`),
    );
    for (const chain of [...builtIn, ...own]) {
      for (const rule of rules.get(`${table}/${chain}`) ?? []) lines.push(`-A ${chain} ${rule}`);
    }
    lines.push("COMMIT");
  }
  return `${lines.join("\n")}\n`;
}
