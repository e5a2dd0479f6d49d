// The load balancer's rules as the kernel's tools list them: how to ask, whether everything that some ports need is there, and one
// text to compare listings by. Tools print rules otherwise than they take them, so a listing is compared to an earlier one. Pure.

import type { IpFamily } from "../../base/ip.ts";
import type { BalancedPort } from "../../services/balanced-ports.ts";
import { type BalancerTool, iptablesChanges, iptablesFrom, nftBase, nftChanges } from "./balancer-rules.ts";

/** The commands that list all rules. */
export function listCommands(tool: BalancerTool, families: readonly IpFamily[]): readonly (readonly string[])[] {
  if (tool === "nftables") return [["nft", "list", "table", "inet", "fairlead-balancer"]];
  return families.map((family) => [family === 4 ? "iptables-save" : "ip6tables-save", "-t", "mangle"]);
}

/** What stays the same while nobody changes a rule: no counters, no dates, elements of maps in order. */
export function comparable(listing: string): string {
  return listing
    .replace(/^#.*\n/gm, "")
    .replace(/\[\d+:\d+\]/g, "")
    .replace(/elements = \{([^}]*)\}/g, (_, list: string) => wordsOf(list, ",").sort().join());
}

/** Whether a listing has as many rules in each chain, and as many elements, as these ports ask for. */
export function isWhole(
  tool: BalancerTool,
  family: IpFamily | undefined,
  listing: string,
  ports: readonly BalancedPort[],
): boolean {
  const changes = ports
    .filter((port) => family === undefined || port.family === family)
    .map((after) => ({ before: undefined, after }));
  if (tool === "iptables") return sameCounts(appended(listing), appended(iptablesFrom(iptablesChanges(changes))));
  const wanted = inChains(nftBase);
  const text = nftChanges(changes);
  for (const [, chain = ""] of text.matchAll(/^add rule inet fairlead-balancer (\S+) /gm)) wanted.set(chain, 1);
  const elements = (some: string) => some.match(/ : jump BAL-/g)?.length ?? 0;
  return sameCounts(inChains(listing), wanted) && elements(listing) === elements(text);
}

/** Rules by chain in `iptables-save` text; those of others are not counted. */
function appended(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [line, chain = ""] of text.matchAll(/^-A (\S+) .*$/gm)) {
    if (/^BAL(ANCER|-)/.test(chain) || line.endsWith(" -j BALANCER")) counts.set(chain, (counts.get(chain) ?? 0) + 1);
  }
  return counts;
}

/** Rules by chain in nft's own form of a table. */
function inChains(text: string): Map<string, number> {
  const bodies = text.matchAll(/^\s*chain (\S+) \{\n([\s\S]*?)^\s*\}/gm);
  return new Map(
    [...bodies].map(([, chain = "", body = ""]) => [
      chain,
      wordsOf(body, "\n").filter((line) => !line.startsWith("type ")).length,
    ]),
  );
}

function wordsOf(text: string, separator: string): string[] {
  return text
    .split(separator)
    .map((one) => one.trim())
    .filter((one) => one !== "");
}

function sameCounts(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  return a.size === b.size && [...a].every(([chain, count]) => b.get(chain) === count);
}
