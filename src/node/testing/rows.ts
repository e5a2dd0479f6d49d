// Rows of a service table for tests of the rule backends.

import type { ServicePort, TableEndpoint } from "../../services/service-table.ts";

/**
 * A ClusterIP Service `ns/sN` with endpoints by their last number; even ones are on this node. `portName` is its port's name;
 * it has none unless given.
 */
export function port(
  service: number,
  endpoints: readonly number[],
  more: Partial<ServicePort> = {},
  portName = "",
): ServicePort {
  const list = endpoints.map((one) => ({
    address: `10.244.${service % 250}.${one}`,
    port: 8080,
    local: one % 2 === 0,
  }));
  const name = `ns/s${service}${portName && `:${portName}`}`;
  return {
    key: `${name}/TCP/4`,
    name,
    namespace: "ns",
    service: `s${service}`,
    family: 4,
    protocol: "TCP",
    port: 80,
    clusterIP: `10.96.${service >> 8}.${service & 255}`,
    externalIPs: [],
    loadBalancerIPs: [],
    sourceRanges: [],
    nodePort: undefined,
    healthCheckNodePort: undefined,
    internalPolicyLocal: false,
    externalPolicyLocal: false,
    affinitySeconds: undefined,
    clusterEndpoints: list,
    localEndpoints: list.filter((one) => one.local),
    hasEndpoints: list.length > 0,
    localReady: 0,
    ...more,
  };
}

/** The ClusterIP Service `shop/cart` at this address with these endpoints, which are all on the node unless `more` says otherwise. */
export function cartRow(
  clusterIP: string,
  endpoints: readonly TableEndpoint[],
  more: Partial<ServicePort> = {},
): ServicePort {
  return {
    ...port(0, []),
    key: "shop/cart:http/TCP/4",
    name: "shop/cart:http",
    namespace: "shop",
    service: "cart",
    clusterIP,
    clusterEndpoints: endpoints,
    localEndpoints: endpoints,
    hasEndpoints: endpoints.length > 0,
    localReady: endpoints.length,
    ...more,
  };
}

export function table(rows: readonly ServicePort[]): Map<string, ServicePort> {
  return new Map(rows.map((row) => [row.key, row]));
}
