// Walks a packet through the pieces of the iptables backend as netfilter does on one node, for tests: translation, then the filter's
// hooks, then the way out. Tells what becomes of it in the words of `explain --packet`.

import type { Rules } from "../service-rules.ts";
import { type TracedPacket, type TraceSurroundings, traceChain } from "./chain-tracer.ts";

export interface IptablesTrace {
  readonly outcome: "endpoints" | "reject" | "drop" | "pass";
  readonly endpoints: readonly {
    readonly address: string;
    readonly port: number;
    readonly probability: number;
    readonly masqueraded: boolean;
  }[];
}

export function traceIptables(
  rules: Rules,
  packet: Omit<TracedPacket, "mark">,
  around: TraceSurroundings,
): IptablesTrace {
  const fromNode = around.isLocal(packet.source);
  const endpoints: IptablesTrace["endpoints"][number][] = [];
  for (const end of traceChain(rules, fromNode ? "nat/OUTPUT" : "nat/PREROUTING", { ...packet, mark: 0 }, around)) {
    const { destination: address, port } = end.packet;
    const local = around.isLocal(address);
    const hooks = fromNode ? ["OUTPUT", ...(local ? ["INPUT"] : [])] : [local ? "INPUT" : "FORWARD"];
    for (const hook of hooks) {
      for (const { verdict } of traceChain(rules, `filter/${hook}`, end.packet, around)) {
        if (verdict === "drop" || verdict === "reject") return { outcome: verdict, endpoints: [] };
      }
    }
    if (end.verdict !== "dnat") continue;
    const [out] = traceChain(rules, "nat/POSTROUTING", end.packet, around);
    endpoints.push({ address, port, probability: end.probability, masqueraded: out!.verdict === "masquerade" });
  }
  return { outcome: endpoints.length > 0 ? "endpoints" : "pass", endpoints };
}
