// The service table of one node as a collection: one row a Service port and family, recomputed when the Service, its slices or
// the node's zone change.

import { type Derived, derive } from "../collections/derive.ts";
import type { ServiceInputs } from "./inputs.ts";
import { type ServicePort, servicePortsOf } from "./service-table.ts";

/** Rows by key (`shop/cart:http/TCP/4`) for the node of this name. */
export function serviceTable(inputs: Pick<ServiceInputs, "resolved" | "nodes">, node: string): Derived<ServicePort> {
  const { resolved, nodes } = inputs;
  return derive(resolved, (service, fetch) => servicePortsOf(service, fetch.one(nodes, node) ?? { name: node }), {
    name: `service table of ${node}`,
    key: (row) => row.key,
  });
}
