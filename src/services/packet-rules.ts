// What the rules of one Service port make of a packet to one of its addresses: where it is let on to, and with which mark, or
// why it is kept out. One row at a time; which row's turn it is, and what endpoints see, is decided in `packet.ts`.

import { ipFamily } from "../base/ip.ts";
import type { Provenance } from "../model/provenance.ts";
import type { Destination, DestinationKind, ModeSemantics } from "./packet-modes.ts";
import { type Packet, type PacketOptions, type PacketPlace, rangeWith, takesNodePorts } from "./packet-place.ts";
import type { ServicePort, ServiceTable, TableEndpoint } from "./service-table.ts";

/** One thing that the packet passes. */
export interface PacketStep {
  readonly where: string;
  readonly what: string;
  readonly from?: Provenance;
}

export const destinationWords: Readonly<Record<DestinationKind, string>> = {
  clusterIP: "cluster IP",
  externalIP: "external IP",
  loadBalancerIP: "load-balancer IP",
  nodePort: "node port",
};

/** A row that has the packet's destination as one of its addresses. */
export interface Claim {
  readonly row: ServicePort;
  readonly destination: Destination;
  /** It is a node port on an address where node ports do not answer, and can only be refused. */
  readonly unserved?: true;
}

/** What a row's rules make of the packet. */
export type Outcome =
  | {
      readonly kind: "translate";
      readonly policy: "Cluster" | "Local";
      readonly steps: readonly PacketStep[];
      readonly endpoints: readonly TableEndpoint[];
      readonly masquerade: string | undefined;
      readonly kept: string;
    }
  | {
      readonly kind: "refuse";
      readonly verdict: "reject" | "drop";
      readonly reason: string;
      readonly from: Provenance;
      readonly cause: "endpoints" | "ranges";
      readonly steps: readonly PacketStep[];
    };

/** All rows with the packet's destination, in the order in which they are asked. */
export function claimsOf(
  packet: Packet,
  place: PacketPlace,
  table: ServiceTable,
  options: PacketOptions,
  semantics: ModeSemantics,
): Claim[] {
  const { address, port } = packet.destination;
  const family = ipFamily(address);
  if (packet.protocol === "SCTP" && !semantics.carriesSctp) return [];
  const rows = [...table.values()]
    .filter((row) => row.family === family && row.protocol === packet.protocol)
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  const claims: Claim[] = [];
  for (const row of rows) {
    if (row.port !== port) continue;
    const add = (kind: DestinationKind) => claims.push({ row, destination: { kind, address, port } });
    if (row.clusterIP === address) add("clusterIP");
    if (row.externalIPs.includes(address)) add("externalIP");
    if (row.loadBalancerIPs.includes(address)) add("loadBalancerIP");
  }
  // Node ports come last in every mode.
  const served = takesNodePorts(address, place, options);
  if (served || (semantics.refusesOnAllAddresses && place.isLocal(address))) {
    for (const row of rows) {
      if (row.nodePort !== port || (!served && canServe(row))) continue;
      claims.push({ row, destination: { kind: "nodePort", address, port }, ...(served ? {} : { unserved: true }) });
    }
  }
  return claims;
}

/** Whether a node port leads to an endpoint for what comes from outside. */
function canServe(row: ServicePort): boolean {
  return row.externalPolicyLocal ? row.localEndpoints.length > 0 : row.hasEndpoints;
}

export function outcomeOf(
  { row, destination, unserved }: Claim,
  packet: Packet,
  place: PacketPlace,
  options: PacketOptions,
  semantics: ModeSemantics,
): Outcome {
  const { names } = options;
  const found = {
    where: names.lookup(row, destination),
    what: destinationText(destination, row),
    ...origin(row, destination.kind, options),
  };
  const noEndpoints: Outcome = {
    kind: "refuse",
    verdict: "reject",
    reason: "has no endpoints",
    from: selectorField(row, options),
    cause: "endpoints",
    steps: [],
  };
  if (destination.kind === "clusterIP") {
    if (!row.hasEndpoints) return noEndpoints;
    const local = row.internalPolicyLocal;
    const from = field(row, "spec.internalTrafficPolicy");
    if (local && row.localEndpoints.length === 0) {
      if (semantics.withoutLocal !== "all nodes") return withoutLocal("internalTrafficPolicy", from, [], semantics);
    }
    const masquerade = clusterIpMasquerade(place, options);
    return translate(local, [found], row, options, from, masquerade, keptOnClusterIp(place, options));
  }

  if (unserved && row.hasEndpoints) {
    return withoutLocal("externalTrafficPolicy", field(row, "spec.externalTrafficPolicy"), [], semantics);
  }

  const checked = semantics.checksSourceRanges;
  if (destination.kind !== "loadBalancerIP" || row.sourceRanges.length === 0) {
    return row.hasEndpoints ? fromOutside(row, [found], place, options, semantics) : noEndpoints;
  }
  if (!row.hasEndpoints && checked === "with endpoints") return noEndpoints;
  const firewall = { where: names.firewall(row), from: field(row, "spec.loadBalancerSourceRanges") };
  const range = admittedBy(row, packet, place);
  if (range === undefined) {
    const reason = `does not admit the source ${packet.source.address} (loadBalancerSourceRanges: ${row.sourceRanges.join(", ")})`;
    const step = { ...firewall, what: "the source is in none of the ranges" };
    const verdict = semantics.outsideRanges;
    return { kind: "refuse", verdict, reason, from: firewall.from, cause: "ranges", steps: [found, step] };
  }
  if (!row.hasEndpoints) return noEndpoints;
  const step = { ...firewall, what: `the source is admitted by ${range}` };
  return fromOutside(row, [found, step], place, options, semantics);
}

/** Past the address: external IPs, load-balancer IPs and node ports go by the external policy. */
function fromOutside(
  row: ServicePort,
  before: readonly PacketStep[],
  place: PacketPlace,
  options: PacketOptions,
  semantics: ModeSemantics,
): Outcome {
  const from = field(row, "spec.externalTrafficPolicy");
  const where = options.names.external(row);
  const step = (what: string): PacketStep[] => [...before, { where, what, from }];
  if (!row.externalPolicyLocal) {
    const why = "externalTrafficPolicy Cluster: the answer has to come back through this node";
    return translate(
      false,
      step("external traffic, policy Cluster: marked for masquerading"),
      row,
      options,
      from,
      why,
      "",
    );
  }
  if (semantics.shortCircuits && place.fromPod) {
    const what = "traffic of a pod, to which policy Local does not apply";
    return translate(
      false,
      step(what),
      row,
      options,
      undefined,
      undefined,
      "a pod's own address leads back to it from any node",
    );
  }
  if (semantics.shortCircuits && place.fromNode) {
    const what = "the node's own traffic, to which policy Local does not apply: marked for masquerading";
    const why = "the node's own traffic to an external address";
    return translate(false, step(what), row, options, undefined, why, "");
  }
  if (row.localEndpoints.length === 0 && semantics.withoutLocal !== "all nodes") {
    return withoutLocal("externalTrafficPolicy", from, step("external traffic, policy Local"), semantics);
  }
  return translate(
    true,
    step("external traffic, policy Local"),
    row,
    options,
    from,
    undefined,
    "externalTrafficPolicy Local keeps it",
  );
}

function translate(
  local: boolean,
  steps: readonly PacketStep[],
  row: ServicePort,
  options: PacketOptions,
  from: Provenance | undefined,
  masquerade: string | undefined,
  kept: string,
): Outcome {
  // Policy Local without local endpoints comes here only in modes that then use all.
  const useLocal = local && row.localEndpoints.length > 0;
  const policy = useLocal ? "Local" : "Cluster";
  const endpoints = useLocal ? row.localEndpoints : row.clusterEndpoints;
  const count = `${endpoints.length} endpoint${endpoints.length === 1 ? "" : "s"}`;
  const what = `policy ${policy}: ${count}${useLocal ? " on this node" : local ? ", as none is on this node" : ""}`;
  const balance = { where: options.names.balance(row, policy), what, ...(from ? { from } : {}) };
  return { kind: "translate", policy, steps: [...steps, balance], endpoints, masquerade, kept };
}

function withoutLocal(
  policy: "internalTrafficPolicy" | "externalTrafficPolicy",
  from: Provenance,
  steps: readonly PacketStep[],
  semantics: ModeSemantics,
): Outcome {
  const verdict = semantics.withoutLocal === "reject" ? "reject" : "drop";
  return {
    kind: "refuse",
    verdict,
    reason: `has no local endpoints: ${policy} is Local and its endpoints are on other nodes`,
    from,
    cause: "endpoints",
    steps,
  };
}

function clusterIpMasquerade(place: PacketPlace, options: PacketOptions): string | undefined {
  if (options.masqueradeAll) return "all traffic to cluster IPs is masqueraded here (masqueradeAll)";
  if (place.fromPod !== false) return undefined;
  return `the source is not in the pods' range ${options.podRanges?.join(", ")}`;
}

function keptOnClusterIp(place: PacketPlace, options: PacketOptions): string {
  return place.fromPod
    ? `the source is a pod (range ${options.podRanges?.join(", ")})`
    : "nothing asks for masquerading on the way to a cluster IP";
}

/** The range that admits the source; a node that owns a load-balancer address may use it when its own address is admitted. */
function admittedBy(row: ServicePort, packet: Packet, place: PacketPlace): string | undefined {
  const { address } = packet.source;
  const range = rangeWith(row.sourceRanges, address);
  if (range !== undefined || !row.loadBalancerIPs.includes(address)) return range;
  return row.sourceRanges.find((one) => place.nodeAddresses.some((own) => rangeWith([one], own)));
}

export function serviceKey(row: ServicePort): string {
  return `${row.namespace}/${row.service}`;
}

export function field(row: ServicePort, path: string): Provenance {
  return { kind: "Service", namespace: row.namespace, name: row.service, field: path };
}

function selectorField(row: ServicePort, options: PacketOptions): Provenance {
  const selector = options.resolved?.(serviceKey(row))?.spec.selector;
  return field(row, selector && Object.keys(selector).length > 0 ? "spec.selector" : "");
}

/** The field that gives a row the destination. */
export function origin(row: ServicePort, kind: DestinationKind, options: PacketOptions): { readonly from: Provenance } {
  if (kind === "clusterIP") return { from: field(row, "spec.clusterIPs") };
  if (kind === "externalIP") return { from: field(row, "spec.externalIPs") };
  if (kind === "loadBalancerIP") return { from: field(row, "status.loadBalancer.ingress") };
  const ports = options.resolved?.(serviceKey(row))?.spec.ports ?? [];
  const at = ports.findIndex((one) => one.port === row.port && (one.protocol ?? "TCP") === row.protocol);
  return { from: field(row, at < 0 ? "spec.ports" : `spec.ports[${at}].nodePort`) };
}

export function refusalGroup(kind: DestinationKind): keyof ModeSemantics["refusedAt"] {
  return kind === "externalIP" || kind === "loadBalancerIP" ? "outside" : kind;
}

function destinationText({ kind, address, port }: Destination, row: ServicePort): string {
  const name = kind === "nodePort" ? `node port ${port}` : `${destinationWords[kind]} ${address} port ${port}`;
  return `${name} of ${row.name}`;
}
