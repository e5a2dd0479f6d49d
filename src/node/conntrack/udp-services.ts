// The UDP ports of Services as connection tracking sees them: where clients send to, and which endpoints may answer. Unlike the
// service table it is the same on every node, and an endpoint that terminates belongs to it as long as it serves: its
// clients may finish (pkg/proxy/conntrack/cleanup.go).

import { canonicalAddress, ipFamily } from "../../base/ip.ts";
import type { Collection } from "../../collections/collection.ts";
import { type Derived, derive } from "../../collections/derive.ts";
import { isHeadless } from "../../services/objects.ts";
import { type ResolvedService, servicePortName, targetPortOf } from "../../services/resolved-service.ts";
import { endpointText } from "../../services/service-table.ts";

export interface UdpService {
  /** `kube-system/kube-dns:dns`. */
  readonly name: string;
  /** `10.96.0.10:53`: ClusterIPs, external and load-balancer addresses. */
  readonly frontends: readonly string[];
  readonly nodePort: number | undefined;
  /** `10.244.1.5:53`: every endpoint that serves, terminating or not. */
  readonly endpoints: readonly string[];
}

export function udpServicesOf(service: ResolvedService): readonly UdpService[] {
  const { spec } = service;
  if (spec.type === "ExternalName" || isHeadless(spec)) return [];
  const addresses = [
    ...(spec.clusterIPs ?? []),
    ...(spec.externalIPs ?? []),
    ...(spec.type === "LoadBalancer" ? service.ingress.flatMap((one) => (one.ip ? [one.ip] : [])) : []),
  ];
  return (spec.ports ?? []).flatMap((port): UdpService[] => {
    if (port.protocol !== "UDP") return [];
    return [
      {
        name: servicePortName(service.namespace, service.name, port.name ?? ""),
        frontends: addresses
          .filter((one) => ipFamily(one) !== undefined)
          .map((one) => endpointText({ address: canonicalAddress(one), port: port.port })),
        nodePort: port.nodePort || undefined,
        endpoints: service.endpoints.flatMap((one) => {
          const target = targetPortOf(one, port);
          if (target === undefined || !(one.ready || one.serving)) return [];
          return [endpointText({ address: one.address, port: target })];
        }),
      },
    ];
  });
}

export function udpServices(resolved: Collection<ResolvedService>): Derived<UdpService> {
  return derive(resolved, udpServicesOf, { name: "udp services", key: (one) => one.name });
}
