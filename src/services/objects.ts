// What the labels and fields of Service and EndpointSlice mean to this room (core/v1, discovery.k8s.io/v1). Types come from
// `api`; defaults and validation live there, too.

import type { EndpointSlice, ServicePort as ServicePortSpec, ServiceSpec } from "../api/kinds.ts";

export type Protocol = NonNullable<ServicePortSpec["protocol"]>;
export type FamilyName = "IPv4" | "IPv6";

export const serviceNameLabel = "kubernetes.io/service-name";
export const managedByLabel = "endpointslice.kubernetes.io/managed-by";
export const headlessLabel = "service.kubernetes.io/headless";
export const serviceProxyNameLabel = "service.kubernetes.io/service-proxy-name";
export const zoneLabel = "topology.kubernetes.io/zone";

/** The label `kubernetes.io/service-name` as `namespace/name`; undefined for a slice that belongs to no Service. */
export function serviceOfSlice(slice: EndpointSlice): string | undefined {
  const name = slice.metadata.labels?.[serviceNameLabel];
  return name ? `${slice.metadata.namespace}/${name}` : undefined;
}

/** No virtual address: `clusterIP: None`. */
export function isHeadless(spec: ServiceSpec): boolean {
  return spec.type !== "ExternalName" && spec.clusterIP === "None";
}
