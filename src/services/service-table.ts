// What one node must do for one Service port in one family: its addresses by kind, and the endpoints that its traffic
// policies leave (pkg/proxy/topology.go CategorizeEndpoints, serviceport.go). Rows are independent of the backend that
// renders them: iptables, nftables, ipvs and userspace all read this.

import { parseCidr } from "../base/cidr.ts";
import { addressWithPort, canonicalAddress, type IpFamily, ipFamily } from "../base/ip.ts";
import { isHeadless, type Protocol, serviceProxyNameLabel } from "./objects.ts";
import { type ResolvedService, type ServiceEndpoint, servicePortName, targetPortOf } from "./resolved-service.ts";

export interface TableEndpoint {
  readonly address: string;
  readonly port: number;
  /** On the node this table is for. */
  readonly local: boolean;
}

export interface ServicePort {
  /** Unique in a table: `shop/cart:http/TCP/4`. */
  readonly key: string;
  /** `shop/cart:http`, as kube-proxy's comments and hashes name it. */
  readonly name: string;
  readonly namespace: string;
  readonly service: string;
  readonly family: IpFamily;
  readonly protocol: Protocol;
  readonly port: number;
  readonly clusterIP: string;
  readonly externalIPs: readonly string[];
  /** Of status.loadBalancer.ingress, those that this node must answer for (`ipMode: Proxy` is somebody else's). */
  readonly loadBalancerIPs: readonly string[];
  /** CIDR ranges; empty admits everybody. */
  readonly sourceRanges: readonly string[];
  readonly nodePort: number | undefined;
  readonly healthCheckNodePort: number | undefined;
  readonly internalPolicyLocal: boolean;
  readonly externalPolicyLocal: boolean;
  /** Seconds that a client stays with its endpoint; undefined without ClientIP affinity. */
  readonly affinitySeconds: number | undefined;
  /** For traffic under policy Cluster, sorted by `address:port`. Empty when no policy of this port uses them. */
  readonly clusterEndpoints: readonly TableEndpoint[];
  /** For traffic under policy Local, sorted likewise. Empty when no policy of this port uses them. */
  readonly localEndpoints: readonly TableEndpoint[];
  /** Whether anything could serve this port, on any node: decides between refusing and dropping. */
  readonly hasEndpoints: boolean;
  /** Ready endpoints on this node: what the health check node port reports. */
  readonly localReady: number;
}

/** The node that a table is for; the zone decides about topology hints. */
export interface NodePlace {
  readonly name: string;
  readonly zone?: string;
}

/** All rows by key: a `Collection<ServicePort>` is one, and so is a Map in a test. */
export interface ServiceTable {
  values(): Iterable<ServicePort>;
}

/** Whether a port is reachable from outside of the cluster. */
export function externallyAccessible(row: ServicePort): boolean {
  return row.nodePort !== undefined || row.externalIPs.length > 0 || row.loadBalancerIPs.length > 0;
}

export function usesClusterEndpoints(row: ServicePort): boolean {
  // Even with a Local external policy the Cluster endpoints serve what comes from inside (short-circuits).
  return !row.internalPolicyLocal || externallyAccessible(row);
}

export function usesLocalEndpoints(row: ServicePort): boolean {
  return row.internalPolicyLocal || (row.externalPolicyLocal && externallyAccessible(row));
}

/** The rows of one Service on one node: none for headless, ExternalName and Services that another proxy serves. */
export function servicePortsOf(service: ResolvedService, node: NodePlace): readonly ServicePort[] {
  const { spec } = service;
  if (spec.type === "ExternalName" || isHeadless(spec) || !spec.clusterIP) return [];
  if (serviceProxyNameLabel in service.labels) return [];
  const rows: ServicePort[] = [];
  for (const clusterIP of spec.clusterIPs ?? [spec.clusterIP]) {
    const family = ipFamily(clusterIP);
    if (family === undefined) continue;
    const ofFamily = (addresses: readonly string[]) =>
      addresses.filter((one) => ipFamily(one) === family).map(canonicalAddress);
    const isLoadBalancer = spec.type === "LoadBalancer";
    for (const port of spec.ports ?? []) {
      const protocol = port.protocol ?? "TCP";
      const name = servicePortName(service.namespace, service.name, port.name ?? "");
      const external = spec.type === "NodePort" || isLoadBalancer || (spec.externalIPs?.length ?? 0) > 0;
      const row: ServicePort = {
        key: `${name}/${protocol}/${family}`,
        name,
        namespace: service.namespace,
        service: service.name,
        family,
        protocol,
        port: port.port,
        clusterIP: canonicalAddress(clusterIP),
        externalIPs: ofFamily(spec.externalIPs ?? []),
        loadBalancerIPs: isLoadBalancer
          ? ofFamily(service.ingress.flatMap((one) => (one.ip && (one.ipMode ?? "VIP") === "VIP" ? [one.ip] : [])))
          : [],
        sourceRanges: isLoadBalancer ? sourceRanges(spec.loadBalancerSourceRanges ?? [], family) : [],
        nodePort: spec.type === "NodePort" || isLoadBalancer ? port.nodePort || undefined : undefined,
        healthCheckNodePort:
          isLoadBalancer && spec.externalTrafficPolicy === "Local" ? spec.healthCheckNodePort || undefined : undefined,
        internalPolicyLocal: spec.internalTrafficPolicy === "Local",
        externalPolicyLocal: external && spec.externalTrafficPolicy === "Local",
        affinitySeconds:
          spec.sessionAffinity === "ClientIP"
            ? (spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 10_800)
            : undefined,
        clusterEndpoints: [],
        localEndpoints: [],
        hasEndpoints: false,
        localReady: 0,
      };
      rows.push({ ...row, ...chooseEndpoints(row, candidatesOf(service, port, family), node) });
    }
  }
  return rows;
}

/** Those of one family; a range of everything among them is no restriction. */
function sourceRanges(given: readonly string[], family: IpFamily): readonly string[] {
  const own = given.map((range) => range.trim()).filter((range) => range.includes(":") === (family === 6));
  return own.some((range) => parseCidr(range)?.prefix === 0) ? [] : own;
}

/** An endpoint that may serve one port. Those of large Services are remembered: few of them change at a time. */
interface Candidate {
  readonly text: string;
  readonly of: ServiceEndpoint;
  readonly port: number;
  /** As it stands in the table of its own node, and in that of others. */
  readonly near: TableEndpoint;
  readonly far: TableEndpoint;
}

const known = new WeakMap<ServiceEndpoint, Candidate>();
const worthKnowing = 16;

function candidatesOf(
  service: ResolvedService,
  port: NonNullable<ResolvedService["spec"]["ports"]>[number],
  family: IpFamily,
): Candidate[] {
  const remember = service.endpoints.length >= worthKnowing;
  const found = new Map<string, Candidate>();
  for (const endpoint of service.endpoints) {
    if (endpoint.family !== family) continue;
    const target = targetPortOf(endpoint, port);
    if (target === undefined) continue;
    let candidate = remember ? known.get(endpoint) : undefined;
    if (candidate?.port !== target) {
      candidate = candidateOf(endpoint, target);
      if (remember) known.set(endpoint, candidate);
    }
    const before = found.get(candidate.text);
    if (!before || (endpoint.ready && !before.of.ready)) found.set(candidate.text, candidate);
  }
  return [...found.keys()].sort().map((key) => found.get(key)!);
}

function candidateOf(endpoint: ServiceEndpoint, port: number): Candidate {
  const { address } = endpoint;
  const far = { address, port, local: false };
  return { text: endpointText(far), of: endpoint, port, far, near: { ...far, local: true } };
}

/** `10.244.1.5:8080`, `[fd00::5]:8080`. */
export function endpointText(endpoint: { readonly address: string; readonly port: number }): string {
  return addressWithPort(endpoint.address, endpoint.port);
}

function chooseEndpoints(
  row: ServicePort,
  all: readonly Candidate[],
  node: NodePlace,
): Pick<ServicePort, "clusterEndpoints" | "localEndpoints" | "hasEndpoints" | "localReady"> {
  const isLocal = ({ of }: Candidate) => of.node !== undefined && of.node === node.name;
  const plain = (list: readonly Candidate[]): TableEndpoint[] => list.map((one) => (isLocal(one) ? one.near : one.far));
  const ready = all.filter(({ of }) => of.ready);
  const fallback = all.filter(({ of }) => of.serving && of.terminating && !of.ready);
  const localReady = ready.filter(isLocal);

  let cluster: readonly Candidate[] = [];
  if (usesClusterEndpoints(row)) {
    cluster = byHints(ready, node);
    // Nothing is ready: what still finishes its work is better than a refusal (KEP-1669).
    if (cluster.length === 0) cluster = fallback;
  }
  let local: readonly Candidate[] = [];
  if (usesLocalEndpoints(row)) local = localReady.length > 0 ? localReady : fallback.filter(isLocal);
  return {
    clusterEndpoints: plain(cluster),
    localEndpoints: plain(local),
    hasEndpoints: cluster.length > 0 || (usesLocalEndpoints(row) && ready.length + fallback.length > 0),
    localReady: localReady.length,
  };
}

/** Hints hold only when every ready endpoint has them and one names this node (else this zone); otherwise all serve. */
function byHints(ready: readonly Candidate[], node: NodePlace): readonly Candidate[] {
  if (ready.length === 0) return ready;
  if (ready.every(({ of }) => (of.forNodes?.length ?? 0) > 0)) {
    const near = ready.filter(({ of }) => of.forNodes?.includes(node.name));
    if (near.length > 0) return near;
  }
  const { zone } = node;
  if (zone !== undefined && ready.every(({ of }) => (of.forZones?.length ?? 0) > 0)) {
    const near = ready.filter(({ of }) => of.forZones?.includes(zone));
    if (near.length > 0) return near;
  }
  return ready;
}
