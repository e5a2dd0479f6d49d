// Rows of a service table for this folder's tests.

import type { ServicePort } from "../../services/service-table.ts";

/** A ClusterIP Service by number; endpoints with even numbers are on the node. */
export function port(service: number, endpoints: readonly number[], more: Partial<ServicePort> = {}): ServicePort {
  const list = endpoints.map((one) => ({
    address: `10.244.${service % 250}.${one}`,
    port: 8080,
    local: one % 2 === 0,
  }));
  return {
    key: `ns/s${service}/TCP/4`,
    name: `ns/s${service}`,
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

export const table = (rows: readonly ServicePort[]) => new Map(rows.map((row) => [row.key, row]));
