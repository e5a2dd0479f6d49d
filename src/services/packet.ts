// Where one packet goes on one node, and why: the Service port that takes it, what it passes, the endpoints with their
// chances, and the source they see; or why it is refused, dropped, or no Service's business. Pure, over the same table that
// the kernel's rules are made from; follows pkg/proxy/iptables/proxier.go and the hooks of netfilter, and knows no tool.

import { ipFamily } from "../base/ip.ts";
import type { Provenance } from "../model/provenance.ts";
import { type LeftOut, leftOutOf } from "./packet-left-out.ts";
import { type DestinationKind, type Hook, type ModeSemantics, modeSemantics, type PacketMode } from "./packet-modes.ts";
import {
  isLoopback,
  type Packet,
  type PacketNode,
  type PacketOptions,
  type PacketPlace,
  placeOf,
} from "./packet-place.ts";
import {
  type Claim,
  claimsOf,
  destinationWords,
  field,
  type Outcome,
  origin,
  outcomeOf,
  type PacketStep,
  refusalGroup,
  serviceKey,
} from "./packet-rules.ts";
import { strangerReason } from "./packet-strangers.ts";
import { endpointText, type ServiceTable, type TableEndpoint } from "./service-table.ts";

export interface PacketEndpoint {
  readonly address: string;
  readonly port: number;
  /** 0 to 1, for a client without affinity. */
  readonly probability: number;
  readonly where: string;
  readonly node?: string;
  readonly thisNode: boolean;
  /** It no longer takes new work of its own accord; nothing else is ready. */
  readonly terminating?: boolean;
  readonly target?: { readonly kind: string; readonly namespace: string; readonly name: string };
  /** What the endpoint sees as the client's address, and why. */
  readonly source: { readonly address: string; readonly kept: boolean; readonly reason: string };
  /** Why a connection to it fails although the packet arrives. */
  readonly fails?: string;
}

export interface PacketDecision {
  /** `tcp 10.244.1.5:40000 -> 10.96.0.20:80`. */
  readonly packet: string;
  readonly node: string;
  readonly mode: PacketMode;
  readonly outcome: "endpoints" | "reject" | "drop" | "pass";
  /** One sentence. */
  readonly answer: string;
  readonly service?: {
    readonly namespace: string;
    readonly name: string;
    /** `shop/cart:http`. */
    readonly port: string;
    readonly by: DestinationKind;
    readonly from: Provenance;
  };
  readonly steps: readonly PacketStep[];
  /** After the endpoint is picked. */
  readonly masquerade?: PacketStep;
  readonly endpoints: readonly PacketEndpoint[];
  readonly affinity?: { readonly seconds: number; readonly from: Provenance };
  /** Endpoints of the Service that this packet does not go to. */
  readonly leftOut: readonly LeftOut[];
  /** What the answer rests on and cannot be known here. */
  readonly notes?: readonly string[];
}

export function explainPacket(
  packet: Packet,
  node: PacketNode,
  table: ServiceTable,
  options: PacketOptions,
): PacketDecision {
  const about = { packet: packetText(packet), node: node.name, mode: options.mode };
  const semantics = modeSemantics[options.mode];
  const place = placeOf(packet, node, options);
  const claims = claimsOf(packet, place, table, options, semantics);
  const [claim] = claims;
  const { address, port } = packet.destination;
  const unserved = claim && options.unserved?.(packet.protocol, address, port);
  if (claim && unserved !== undefined) return { ...about, ...notServed(claim, unserved, node, options) };
  const outcomes = claims.map((claim) => ({ claim, outcome: outcomeOf(claim, packet, place, options, semantics) }));

  // The first row that translates the address takes the packet; only what none of them takes meets the refusals.
  for (const { claim, outcome } of outcomes) {
    if (outcome.kind === "translate")
      return { ...about, ...delivered(claim, outcome, packet, node, place, options, semantics) };
  }
  for (const { claim, outcome } of outcomes) {
    if (outcome.kind !== "refuse") continue;
    const { row, destination } = claim;
    const service = serviceOf(claim, options);
    const where = options.names.refusal(row, destination, outcome.cause);
    const leftOut = leftOutOf(row, [], node.name, options.resolved?.(serviceKey(row)), "Local");
    const shared = { ...about, service, endpoints: [], leftOut };
    const at = outcome.cause === "ranges" ? allHooks : semantics.refusedAt[refusalGroup(destination.kind)];
    if (!place.hooks.some((hook) => at.includes(hook))) {
      const what = `${outcome.reason}, but this is not asked of what the node itself sends away`;
      return {
        ...shared,
        outcome: "pass",
        answer: `no rule takes it: ${row.name} ${what}; it leaves this node unchanged`,
        steps: [...outcome.steps, { where, what, from: outcome.from }],
      };
    }
    return {
      ...shared,
      outcome: outcome.verdict,
      answer: `${outcome.verdict === "drop" ? "dropped" : "refused"}: ${row.name} ${outcome.reason}`,
      steps: [...outcome.steps, { where, what: `${outcome.verdict}: ${outcome.reason}`, from: outcome.from }],
    };
  }
  const stranger = strangerReason(packet, { isLocal: place.isLocal, table, node, options, semantics });
  const verb = { pass: "no Service takes it", reject: "refused", drop: "dropped" }[stranger.outcome];
  return {
    ...about,
    outcome: stranger.outcome,
    answer: `${verb}: ${stranger.reason}`,
    steps: stranger.outcome === "pass" ? [] : [{ where: options.names.unknown, what: stranger.reason }],
    endpoints: [],
    leftOut: [],
  };
}

function notServed(
  claim: Claim,
  why: string,
  node: PacketNode,
  options: PacketOptions,
): Omit<PacketDecision, "packet" | "node" | "mode"> {
  const { row, destination } = claim;
  const where = options.names.lookup(row, destination);
  const { from } = origin(row, destination.kind, options);
  return {
    outcome: "pass",
    answer: `nothing takes it: ${node.name} cannot serve ${endpointText(destination)} of ${row.name} (${why})`,
    service: serviceOf(claim, options),
    steps: [{ where, what: `not there: ${why}`, from }],
    endpoints: [],
    leftOut: [],
  };
}

const answersStray =
  "its answer goes straight to the client, not back through this node, so that the client does not know it";

const answersStay =
  "its node has the Service's address as well, and takes the answer to it for its own, so that the client hears nothing";

const fromItself = "the node has the Service's address itself, and sends to it from there";

const allHooks: readonly Hook[] = ["input", "forward", "output"];

function delivered(
  claim: Claim,
  outcome: Outcome & { kind: "translate" },
  packet: Packet,
  node: PacketNode,
  place: PacketPlace,
  options: PacketOptions,
  semantics: ModeSemantics,
): Omit<PacketDecision, "packet" | "node" | "mode"> {
  const { row, destination } = claim;
  const { names } = options;
  const resolved = options.resolved?.(serviceKey(row));
  const family = ipFamily(packet.source.address);
  // A node port is an address that the node has in every mode.
  const ownService = semantics.sendsFromServices && place.fromNode && refusalGroup(destination.kind) === "outside";
  const own = node.addresses.find((address) => ipFamily(address) === family);
  const seen = (endpoint: TableEndpoint): PacketEndpoint["source"] => {
    const masqueraded = (reason: string) => ({ address: own ?? "the node's", kept: false, reason });
    if (semantics.relays) {
      // The relay's own socket: to a loopback address the kernel sends from one.
      const address = isLoopback(endpoint.address) ? "127.0.0.1" : (own ?? "the node's");
      return { address, kept: false, reason: "a process on the node relays the connection" };
    }
    if (outcome.masquerade !== undefined) return masqueraded(outcome.masquerade);
    if (endpoint.address === packet.source.address && (semantics.hairpinElsewhere || endpoint.local)) {
      return masqueraded("hairpin: a pod that reaches itself must not see its own address");
    }
    if (ownService) return { address: destination.address, kept: true, reason: fromItself };
    return { address: packet.source.address, kept: true, reason: outcome.kept };
  };
  const failing = (endpoint: TableEndpoint, kept: boolean) => {
    if (!kept || endpoint.local) return undefined;
    // Only this node can translate the answer back.
    if (ownService) return answersStay;
    return place.answersPass === false ? answersStray : undefined;
  };
  const endpoints = outcome.endpoints.map((endpoint): PacketEndpoint => {
    const source = seen(endpoint);
    const fails = failing(endpoint, source.kept);
    const known = resolved?.endpoints.find((one) => one.address === endpoint.address);
    const { kind, namespace, name } = known?.target ?? {};
    return {
      address: endpoint.address,
      port: endpoint.port,
      probability: 1 / outcome.endpoints.length,
      where: names.endpoint(row, endpoint),
      ...(known?.node ? { node: known.node } : {}),
      thisNode: endpoint.local,
      ...(known?.terminating ? { terminating: true } : {}),
      ...(kind && name ? { target: { kind, namespace: namespace ?? row.namespace, name } } : {}),
      source,
      ...(fails === undefined ? {} : { fails }),
    };
  });
  const [first] = endpoints;
  const to = endpoints.length === 1 && first ? endpointText(first) : `one of ${endpoints.length} endpoints`;
  const masquerades = endpoints.some(({ source }) => !source.kept) && !semantics.relays;
  return {
    outcome: "endpoints",
    answer: `${row.name} takes it by its ${destinationWords[destination.kind]}, to ${to}`,
    service: serviceOf(claim, options),
    steps: outcome.steps,
    ...(masquerades ? { masquerade: { where: names.masquerade, what: masqueradeWords(endpoints) } } : {}),
    endpoints,
    ...(row.affinitySeconds === undefined
      ? {}
      : { affinity: { seconds: row.affinitySeconds, from: field(row, "spec.sessionAffinity") } }),
    leftOut: leftOutOf(row, outcome.endpoints, node.name, resolved, outcome.policy),
  };
}

function masqueradeWords(endpoints: readonly PacketEndpoint[]): string {
  const changed = endpoints.filter(({ source }) => !source.kept);
  const [first] = changed;
  const which = changed.length === endpoints.length ? "" : ` for ${changed.map(endpointText).join(", ")}`;
  return `source masqueraded as ${first?.source.address}${which}: ${first?.source.reason}`;
}

function serviceOf({ row, destination }: Claim, options: PacketOptions): NonNullable<PacketDecision["service"]> {
  const { from } = origin(row, destination.kind, options);
  return { namespace: row.namespace, name: row.service, port: row.name, by: destination.kind, from };
}

export function packetText({ protocol, source, destination }: Packet): string {
  const from = source.port === undefined ? source.address : endpointText({ ...source, port: source.port });
  return `${protocol.toLowerCase()} ${from} -> ${endpointText(destination)}`;
}
