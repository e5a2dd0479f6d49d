// Two texts of rules, kube-proxy's and ours, compared: iptables line by line, nftables object by object.

import { parseSave } from "../../src/node/iptables/save.ts";
import { parseSample } from "../../src/node/nftables/testing/sample.ts";
import type { Rules } from "../../src/node/service-rules.ts";

/** Chains in which kube-proxy's order is that of a Go map: compared without it. */
const unordered = /\/KUBE-(SERVICES|NODEPORTS|EXTERNAL-SERVICES|PROXY-FIREWALL)$/;

export function parseRules(mode: string, family: 4 | 6, text: string): Rules {
  return mode === "iptables" ? parseSave(text) : parseSample(text, family === 4 ? "ip" : "ip6");
}

/** What differs, a paragraph a chain, set or element; empty when nothing does. */
export function differences(theirs: Rules, ours: Rules): string[] {
  const list: string[] = [];
  for (const name of [...new Set([...theirs.keys(), ...ours.keys()])].sort()) {
    const [a, b] = [theirs.get(name), ours.get(name)].map((lines) =>
      lines && unordered.test(name) ? [...lines].sort() : lines,
    );
    if (Bun.deepEquals(a, b)) continue;
    const only = (from: readonly string[] = [], other: readonly string[] = []) =>
      from.filter((line) => !other.includes(line));
    const lines = [...only(a, b).map((line) => `- ${line}`), ...only(b, a).map((line) => `+ ${line}`)];
    list.push([`${name}${a ? "" : " is only ours"}${b ? "" : " is only kube-proxy's"}`, ...lines].join("\n    "));
  }
  return list;
}

/** The last rule of nat KUBE-SERVICES sends to the node ports, whatever the order of the others. */
export function nodePortsAreLast(rules: Rules): boolean {
  return rules.get("nat/KUBE-SERVICES")?.at(-1)?.includes("this must be the last rule in this chain") ?? false;
}
