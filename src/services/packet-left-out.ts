// The endpoints of a Service that a packet does not go to, each with the reason: the other half of what
// `service-table.ts` decides.

import { type ResolvedService, type ServiceEndpoint, targetPortOf } from "./resolved-service.ts";
import { endpointText, type ServicePort, type TableEndpoint } from "./service-table.ts";

export interface LeftOut {
  readonly address: string;
  readonly port: number;
  readonly node?: string;
  readonly reason: string;
}

/** `policy` is the one that `chosen` was made by. Empty when the Service is not known. */
export function leftOutOf(
  row: ServicePort,
  chosen: readonly TableEndpoint[],
  node: string,
  service: ResolvedService | undefined,
  policy: "Cluster" | "Local",
): readonly LeftOut[] {
  const port = service?.spec.ports?.find((one) => one.port === row.port && (one.protocol ?? "TCP") === row.protocol);
  if (!service || !port) return [];
  const taken = new Set(chosen.map(endpointText));
  return service.endpoints.flatMap((endpoint): LeftOut[] => {
    const target = endpoint.family === row.family ? targetPortOf(endpoint, port) : undefined;
    if (target === undefined || taken.has(endpointText({ address: endpoint.address, port: target }))) return [];
    const reason = reasonFor(endpoint, node, policy);
    return [{ address: endpoint.address, port: target, ...(endpoint.node ? { node: endpoint.node } : {}), reason }];
  });
}

function reasonFor(endpoint: ServiceEndpoint, node: string, policy: "Cluster" | "Local"): string {
  if (!endpoint.ready) {
    if (!endpoint.serving) return endpoint.terminating ? "terminating, and no longer serving" : "not ready";
    if (!endpoint.terminating) return "not ready";
  }
  if (policy === "Local" && endpoint.node !== node) {
    return `on ${endpoint.node ?? "no known node"}, and policy Local uses only this node's`;
  }
  if (!endpoint.ready) return "terminating, and others are ready";
  const hinted = [
    ...(endpoint.forNodes?.length ? [`node ${endpoint.forNodes.join(", ")}`] : []),
    ...(endpoint.forZones?.length ? [`zone ${endpoint.forZones.join(", ")}`] : []),
  ];
  return hinted.length > 0
    ? `its hints are for ${hinted.join(" and ")}, and others are nearer`
    : "not used by this mode";
}
