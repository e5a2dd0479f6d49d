// Rules after any sequence of changes are those of a fresh start, as the kernel itself prints them: iptables in both variants,
// nftables, both families. ipvs does the same in User-Mode Linux (ipvs.test.ts).

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { iptables } from "../../src/node/iptables/iptables.ts";
import { nftables } from "../../src/node/nftables/nftables.ts";
import type { Run, ServiceRules } from "../../src/node/service-rules.ts";
import { sequences } from "./random-rows.ts";
import { grow, start } from "./rules-increments.ts";
import { runIn } from "./service-network.ts";
import { isRoot, run } from "./stack.ts";

if (!isRoot) console.log("skipped: rules after changes: network namespaces need root");

/** New sequences in each run, beside those kept. */
const more = 6;

const namespaces = ["grown", "fresh"].map((name) => `fl-t-inc${process.pid}-${name}`) as [string, string];

/** What the kernel has, without counters, in an order that does not tell how it came about. */
async function printed(tool: Run, family: 4 | 6, mode: "iptables" | "nftables"): Promise<string> {
  if (mode === "nftables") {
    const { stdout } = await tool(["nft", "-j", "list", "ruleset"]);
    const { nftables: all } = JSON.parse(stdout) as { nftables: Record<string, any>[] };
    const plain = all.flatMap((one) => {
      if (one.metainfo) return [];
      const [[kind, value]] = Object.entries(one) as [[string, any]];
      const { handle: _, ...rest } = value;
      if (Array.isArray(rest.elem)) rest.elem = rest.elem.map((element: unknown) => JSON.stringify(element)).sort();
      return [{ [kind]: rest }];
    });
    // Rules stay in their chain's order; everything else has none.
    const rules = plain.filter((one) => "rule" in one);
    const others = plain.filter((one) => !("rule" in one)).map((one) => JSON.stringify(one));
    const chains = Map.groupBy(rules, ({ rule }) => `${rule.chain}`);
    return JSON.stringify([others.sort(), [...chains].sort(([a], [b]) => (a < b ? -1 : 1))], null, 1);
  }
  const { stdout } = await tool([family === 4 ? "iptables-save" : "ip6tables-save"]);
  const lines = stdout
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .map((line) => line.replace(/\[\d+:\d+\]/, ""));
  const out: string[] = [];
  let table = "";
  for (const line of lines) {
    if (line.startsWith("*")) table = line;
    // Chains print in the order that they were made in; the rules of shared chains come in the order of their Services.
    if (line.startsWith(":") || line.startsWith("-A")) out.push(`${table} ${line}`);
  }
  const chainOf = (line: string) => line.split(" ").slice(0, 3).join(" ");
  return [...out.entries()]
    .sort(([i, a], [j, b]) => (chainOf(a) < chainOf(b) ? -1 : chainOf(a) > chainOf(b) ? 1 : i - j))
    .map(([, line]) => line)
    .join("\n");
}

const kinds = [
  ["iptables", "nft", 4],
  ["iptables", "nft", 6],
  ["iptables", "legacy", 4],
  ["iptables", "legacy", 6],
  ["nftables", undefined, 4],
  ["nftables", undefined, 6],
] as const;

describe.skipIf(!isRoot)("rules after random changes", () => {
  beforeAll(async () => {
    for (const namespace of namespaces) await run(["ip", "netns", "add", namespace]);
  });
  afterAll(async () => {
    for (const namespace of namespaces) await run(["ip", "netns", "delete", namespace]);
  });

  test.each(kinds)(
    "are those of a fresh start: %s %s, IPv%i",
    async (mode, variant, family) => {
      const four = family === 4;
      const localDetector = { kind: "cidr", cidr: four ? "10.244.0.0/16" : "fd00:244::/64" } as const;
      const nodeAddress = four ? "192.0.2.1" : "2001:db8::1";
      const make = (tool: Run): ServiceRules =>
        mode === "iptables"
          ? iptables(tool, { family, localDetector, nodeAddress, localhostNodePorts: four })
          : nftables(tool, { family, localDetector, nodeAddress, nodePortAddresses: [nodeAddress] });
      const [grownTool, freshTool] = namespaces.map((namespace) => runIn(namespace, variant)) as [Run, Run];
      const [grown, fresh] = [make(grownTool), make(freshTool)];
      for (const [seed, states] of sequences(family, more)) {
        await grow(grown, states);
        await start(fresh, states.at(-1)!);
        const [one, other] = [await printed(grownTool, family, mode), await printed(freshTool, family, mode)];
        if (one !== other) console.log(`seed ${seed} (keep it in random-rows.ts)`);
        expect(one).toBe(other);
        expect(one.length).toBeGreaterThan(1000);
        await grown.remove();
        await fresh.remove();
      }
    },
    60_000,
  );
});
