// Which nodes a load balancer sends to for one port of a Service under externalTrafficPolicy Local: those with ready endpoints, as
// a cloud's load balancer learns from health check node ports; when there are none anywhere, those whose endpoints still finish
// their work (KEP-1669). Pure. Under policy Cluster every node serves, and any will do.

import type { IpFamily } from "../base/ip.ts";
import type { Protocol } from "./objects.ts";
import type { ServicePort } from "./service-table.ts";

export interface BalancedPort {
  /** As the rows': `shop/cart:http/TCP/4`. */
  readonly key: string;
  readonly family: IpFamily;
  readonly protocol: Protocol;
  readonly addresses: readonly string[];
  readonly port: number;
  /** Seconds that a client stays with its node; undefined without ClientIP affinity. */
  readonly affinitySeconds: number | undefined;
  /** Numbers of nodes, from 1, in order. */
  readonly nodes: readonly number[];
}

/** One port as a node's table has it now, and as that node's rules are known to have it. */
export interface PortOnNode {
  readonly now: ServicePort | undefined;
  readonly inForce: ServicePort | undefined;
}

/** Undefined for a port that needs no choice: without addresses, under policy Cluster, or with no node to send to. */
export function balancedPort(onNodes: readonly PortOnNode[]): BalancedPort | undefined {
  const row = onNodes.find(({ now }) => now !== undefined)?.now;
  if (!row?.externalPolicyLocal || row.loadBalancerIPs.length === 0) return undefined;
  // A node counts when its table has endpoints and its rules lead to some: new ones wait for the rules, old ones leave at once.
  const having = (has: (one: ServicePort) => boolean) =>
    onNodes.flatMap(({ now, inForce }, at) => (now && inForce && has(now) && has(inForce) ? [at + 1] : []));
  const ready = having((one) => one.localReady > 0);
  const nodes = ready.length > 0 ? ready : having((one) => one.localEndpoints.length > 0);
  if (nodes.length === 0) return undefined;
  const { key, family, protocol, loadBalancerIPs: addresses, port, affinitySeconds } = row;
  return { key, family, protocol, addresses, port, affinitySeconds, nodes };
}
