// The model's listeners: one for each port of a Gateway's address, with a chain for plain HTTP or one for each HTTPS listener,
// chosen by SNI, the most specific name first.

import { compareHostPatterns } from "../../model/host-pattern.ts";
import type { FilterChain, Listener } from "../../model/model.ts";
import type { Provenance } from "../../model/provenance.ts";
import type { GatewayPlan, ListenerPlan } from "./gateway-plan.ts";
import { listenerName } from "./names.ts";

/** The protocols that a terminating listener offers, the best first. */
const alpn = ["h2", "http/1.1"];

export function modelListeners(plan: GatewayPlan, address: string): readonly Listener[] {
  const ports = new Map<number, ListenerPlan[]>();
  for (const listener of plan.listeners) {
    if (!listener.served) continue;
    const group = ports.get(listener.port);
    if (group) group.push(listener);
    else ports.set(listener.port, [listener]);
  }
  return [...ports].map(([port, group]): Listener => {
    const from = provenance(plan, group[0]!);
    return {
      name: listenerName(plan.key, port),
      from,
      scope: "gateway",
      address,
      port,
      transport: "tcp",
      chains: chains(plan, group),
    };
  });
}

/** HTTP listeners of a port share one table, and so one chain; a port never mixes HTTP and HTTPS (ProtocolConflict). */
function chains(plan: GatewayPlan, group: readonly ListenerPlan[]): readonly FilterChain[] {
  const first = group[0]!;
  if (first.protocol === "HTTP") {
    return [{ from: provenance(plan, first), when: { kind: "plain" }, serve: { routes: first.table ?? "" } }];
  }
  return [...group]
    .sort((a, b) => compareHostPatterns(a.hostname, b.hostname))
    .map((listener) => ({
      from: provenance(plan, listener),
      when: listener.hostname === "*" ? { kind: "tls" } : { kind: "sni", names: [listener.hostname] },
      tls: { certificates: listener.certificates, alpn },
      serve: { routes: listener.table ?? "" },
    }));
}

function provenance(plan: GatewayPlan, listener: ListenerPlan): Provenance {
  return { kind: "Gateway", namespace: plan.namespace, name: plan.name, field: listener.field };
}
