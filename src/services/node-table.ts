// The service table of one node as a collection: one row a Service port and family, recomputed when the Service, its slices or
// the node's zone change.

import { type Derived, derive } from "../collections/derive.ts";
import { claimOf, lostClaims } from "./external-claims.ts";
import type { ServiceInputs } from "./inputs.ts";
import { type ServicePort, servicePortsOf } from "./service-table.ts";

/** Rows by key (`shop/cart:http/TCP/4`) for the node of this name. */
export function serviceTable(
  inputs: Pick<ServiceInputs, "resolved" | "nodes"> & Partial<Pick<ServiceInputs, "claims">>,
  node: string,
): Derived<ServicePort> {
  const { resolved, nodes, claims } = inputs;
  return derive(
    resolved,
    (service, fetch) => {
      const rows = servicePortsOf(service, fetch.one(nodes, node) ?? { name: node });
      const lost = claims ? lostClaims(service, claims, fetch) : new Map();
      return lost.size === 0 ? rows : rows.map((row) => without(row, lost));
    },
    { name: `service table of ${node}`, key: (row) => row.key },
  );
}

/** A row without the external addresses that another Service has. */
function without(row: ServicePort, lost: ReadonlyMap<string, string>): ServicePort {
  const kept = (addresses: readonly string[]) =>
    addresses.filter((address) => !lost.has(claimOf(address, row.port, row.protocol)));
  return { ...row, externalIPs: kept(row.externalIPs), loadBalancerIPs: kept(row.loadBalancerIPs) };
}
