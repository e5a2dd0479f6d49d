// A Service joined with its EndpointSlices: the one reading of both that the service table, the model's backends and DNS
// are made from. It takes every slice with the service's label, whoever wrote it, as kube-proxy does
// (pkg/proxy/endpointslicecache.go), and knows nothing of a node.

import type {
  EndpointSlice,
  LoadBalancerIngress,
  ObjectReference,
  Service,
  ServicePort as ServicePortSpec,
  ServiceSpec,
} from "../api/kinds.ts";
import { nameOf, objectName } from "../api/object.ts";
import { canonicalAddress, type IpFamily, ipFamily } from "../base/ip.ts";
import { headlessLabel, isHeadless, type Protocol } from "./objects.ts";

/** One address behind a Service, merged over all slices that name it. */
export interface ServiceEndpoint {
  readonly address: string;
  readonly family: IpFamily;
  /** The ports this endpoint answers on, by the Service port's name ("" when unnamed). */
  readonly ports: readonly EndpointPort[];
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly node?: string;
  readonly zone?: string;
  readonly hostname?: string;
  readonly target?: ObjectReference;
  readonly forZones?: readonly string[];
  readonly forNodes?: readonly string[];
}

export interface EndpointPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  readonly appProtocol?: string;
}

export interface ResolvedService {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  /** When the Service was made, RFC 3339. */
  readonly created?: string;
  readonly spec: ServiceSpec;
  readonly labels: Readonly<Record<string, string>>;
  readonly ingress: readonly LoadBalancerIngress[];
  /** Sorted by address; the same address with other ports is another entry. */
  readonly endpoints: readonly ServiceEndpoint[];
}

/** Joins a Service with its slices, in any order. Addresses that are no IP of the slice's family are left out. */
export function resolveService(service: Service, slices: readonly EndpointSlice[]): ResolvedService {
  const merged = new Map<string, ServiceEndpoint>();
  // Slices that say they are of a headless Service are not for an address (kube-proxy does not ask for them).
  const hasAddress = service.spec?.type !== "ExternalName" && !isHeadless(service.spec ?? {});
  for (const slice of slices) {
    if (slice.addressType === "FQDN") continue;
    if (hasAddress && headlessLabel in (slice.metadata.labels ?? {})) continue;
    for (const [key, candidate] of endpointsIn(slice)) {
      const before = merged.get(key);
      if (!before || preferred(candidate, before)) merged.set(key, candidate);
    }
  }
  return {
    key: objectName(service),
    namespace: service.metadata.namespace ?? "default",
    name: service.metadata.name,
    ...(service.metadata.creationTimestamp ? { created: service.metadata.creationTimestamp } : {}),
    spec: service.spec ?? {},
    labels: service.metadata.labels ?? {},
    ingress: service.status?.loadBalancer?.ingress ?? [],
    endpoints: [...merged.keys()].sort().map((key) => merged.get(key)!),
  };
}

type KeyedEndpoints = readonly (readonly [key: string, endpoint: ServiceEndpoint])[];

/** What was read of slices that are worth to be remembered: of a Service with thousands of endpoints one slice changes at a time. */
const known = new WeakMap<EndpointSlice, KeyedEndpoints>();
const worthKnowing = 16;

function endpointsIn(slice: EndpointSlice): KeyedEndpoints {
  if ((slice.endpoints?.length ?? 0) < worthKnowing) return readEndpoints(slice);
  let list = known.get(slice);
  if (!list) {
    list = readEndpoints(slice);
    known.set(slice, list);
  }
  return list;
}

function readEndpoints(slice: EndpointSlice): KeyedEndpoints {
  const family: IpFamily = slice.addressType === "IPv6" ? 6 : 4;
  const ports = (slice.ports ?? []).flatMap((port): EndpointPort[] =>
    port.port === undefined || port.port === null
      ? []
      : [
          {
            name: port.name ?? "",
            protocol: port.protocol ?? "TCP",
            port: port.port,
            ...(port.appProtocol ? { appProtocol: port.appProtocol } : {}),
          },
        ],
  );
  const portsKey = ports.map((port) => `${port.name}/${port.protocol}/${port.port}`).join(",");
  return (slice.endpoints ?? []).flatMap((endpoint): [string, ServiceEndpoint][] => {
    const given = endpoint.addresses[0];
    if (given === undefined || ipFamily(given) !== family) return [];
    const address = canonicalAddress(given);
    const ready = endpoint.conditions?.ready ?? true;
    const read: ServiceEndpoint = {
      address,
      family,
      ports,
      ready,
      serving: endpoint.conditions?.serving ?? ready,
      terminating: endpoint.conditions?.terminating ?? false,
      ...(endpoint.nodeName ? { node: endpoint.nodeName } : {}),
      ...(endpoint.zone ? { zone: endpoint.zone } : {}),
      ...(endpoint.hostname ? { hostname: endpoint.hostname } : {}),
      ...(endpoint.targetRef ? { target: endpoint.targetRef } : {}),
      ...(endpoint.hints?.forZones?.length ? { forZones: endpoint.hints.forZones.map((zone) => zone.name) } : {}),
      ...(endpoint.hints?.forNodes?.length ? { forNodes: endpoint.hints.forNodes.map((node) => node.name) } : {}),
    };
    return [[`${address} ${portsKey}`, read]];
  });
}

/** An address that moved between slices stands in two of them for a moment: the ready, not terminating one counts. */
function preferred(candidate: ServiceEndpoint, before: ServiceEndpoint): boolean {
  if (candidate.ready !== before.ready) return candidate.ready;
  if (candidate.terminating !== before.terminating) return before.terminating;
  return false;
}

/** The endpoint's own port for a Service port; undefined when it has none (a named target port that its pod lacks). */
export function targetPortOf(endpoint: ServiceEndpoint, port: ServicePortSpec): number | undefined {
  const name = port.name ?? "";
  const protocol = port.protocol ?? "TCP";
  return endpoint.ports.find((one) => one.name === name && one.protocol === protocol)?.port;
}

/** `shop/cart:http`, or `shop/cart` for an unnamed port: how kube-proxy names a Service port. */
export function servicePortName(namespace: string, name: string, port: string): string {
  return port === "" ? nameOf(namespace, name) : `${nameOf(namespace, name)}:${port}`;
}
