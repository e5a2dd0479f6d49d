// The names of Services as a collection, one value a Service, and the view of names that questions are answered from
// (Kubernetes DNS specification 1.1.0). A changed Service or slice recomputes the names of one Service.

import type { Disposable } from "../base/disposal.ts";
import type { Collection } from "../collections/collection.ts";
import { derive } from "../collections/derive.ts";
import type { ResolvedService, ServiceEndpoint } from "../services/resolved-service.ts";

export interface NamedPort {
  readonly name: string;
  /** `tcp`, `udp`, `sctp`. */
  readonly protocol: string;
  readonly port: number;
}

export interface EndpointName {
  /** The label before the Service's name: the pod's hostname, or its address with dashes. */
  readonly label: string;
  readonly address: string;
  readonly ports: readonly NamedPort[];
}

export interface ServiceNames {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly kind: "address" | "headless" | "external";
  readonly addresses: readonly string[];
  readonly ports: readonly NamedPort[];
  /** Ready ones (a Service with publishNotReadyAddresses has only ready ones in its slices). */
  readonly endpoints: readonly EndpointName[];
  readonly externalName: string | undefined;
}

/**
 * `10-244-1-5.shop.pod…`: `insecure` takes any address in a namespace that exists, `verified` only that of a pod there,
 * `disabled` knows none.
 */
export type PodNames = "insecure" | "verified" | "disabled";

/** What `answer` reads; a test gives its own. */
export interface ZoneView {
  /** `cluster.local`: lower case, no final dot. */
  readonly zone: string;
  /** The addresses of the server itself, for its own name and the zone's NS record. */
  readonly nameservers: readonly string[];
  /** False until the first state of all inputs is known: until then nothing can be denied. */
  readonly synced: boolean;
  /** Of the SOA record; grows with changes. */
  readonly serial: number;
  /** Seconds that answers may be kept; 5 unless given. */
  readonly ttl?: number;
  /** What a pod's name by address is worth (CoreDNS's `pods`): `insecure` unless given. */
  readonly pods?: PodNames;
  /** The namespace of the pod with this address, for `pods verified` and for autopath. */
  namespaceOfPod?(address: string): string | undefined;
  hasNamespace(name: string): boolean;
  service(namespace: string, name: string): ServiceNames | undefined;
  /** Services that have this address, as their own or as a headless endpoint's. */
  servicesAt(address: string): readonly ServiceNames[];
}

/** The names of one Service. */
export function serviceNames(service: ResolvedService): ServiceNames {
  const { spec } = service;
  const kind = spec.type === "ExternalName" ? "external" : spec.clusterIP === "None" ? "headless" : "address";
  return {
    key: service.key,
    namespace: service.namespace,
    name: service.name,
    kind,
    addresses: kind === "address" ? (spec.clusterIPs ?? (spec.clusterIP ? [spec.clusterIP] : [])) : [],
    ports: (spec.ports ?? []).map((port) => ({
      name: port.name ?? "",
      protocol: (port.protocol ?? "TCP").toLowerCase(),
      port: port.port,
    })),
    endpoints: kind === "external" ? [] : service.endpoints.filter((one) => one.ready).map(endpointName),
    externalName: kind === "external" ? spec.externalName?.replace(/\.$/, "").toLowerCase() : undefined,
  };
}

function endpointName(endpoint: ServiceEndpoint): EndpointName {
  return {
    label: endpoint.hostname ?? dashed(endpoint.address),
    address: endpoint.address,
    ports: endpoint.ports.map((port) => ({
      name: port.name,
      protocol: port.protocol.toLowerCase(),
      port: port.port,
    })),
  };
}

/** `10-244-1-5`: an address as a label. */
export function dashed(address: string): string {
  return address.replace(/[.:]/g, "-");
}

/** The names of all Services. */
export function serviceNamesCollection(resolved: Collection<ResolvedService>): Collection<ServiceNames> & Disposable {
  return derive(resolved, serviceNames, { name: "dns names", key: (names) => names.key });
}
