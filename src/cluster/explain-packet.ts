// `explain --packet` on a stack: names become addresses, the node that decides is found, and its table is made as its rules'
// table is. The decision itself is `services/packet.ts`.

import type { Pod } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { UserError } from "../base/errors.ts";
import { type IpFamily, ipFamily } from "../base/ip.ts";
import type { Collection } from "../collections/collection.ts";
import { balancedPort } from "../services/balanced-ports.ts";
import type { Protocol } from "../services/objects.ts";
import { explainPacket, type PacketDecision } from "../services/packet.ts";
import type { PacketMode } from "../services/packet-modes.ts";
import { type Packet, type PacketNode, rangeWith } from "../services/packet-place.ts";
import { type PacketPlace, type PacketQuestion, parsePacketQuestion } from "../services/packet-question.ts";
import type { ResolvedService } from "../services/resolved-service.ts";
import { type NodePlace, type ServiceTable, servicePortsOf } from "../services/service-table.ts";
import { ruleNames } from "./packet-names.ts";
import { localhostNodePorts, nodePortAddresses, type ProxyFlagTexts } from "./proxy-flags.ts";

export interface PacketRequest {
  readonly packet: string;
  /** The node whose rules are asked; found from the packet unless given. */
  readonly node?: string;
}

export interface PacketContext {
  readonly mode: PacketMode;
  readonly podRanges?: readonly string[];
  readonly serviceRanges?: readonly string[];
  /** In order: the first is the one that packets from outside come to, and that load-balancer addresses lead to. */
  readonly nodes: readonly PacketContextNode[];
  /** What the first node answers for beside its own address (`netns/plan.ts`: all load-balancer addresses). */
  readonly firstNodeRanges: readonly string[];
  readonly pods: Pick<Collection<KubeObject>, "get" | "values">;
  readonly resolved: Pick<Collection<ResolvedService>, "get" | "values">;
  /** The table that a node's rules are made from; made from `resolved` unless given. */
  readonly table?: (node: string) => ServiceTable | undefined;
  /** Why a node does not serve an address and port of a Service; undefined when it does. */
  readonly unserved?: (node: string, protocol: Protocol, address: string, port: number) => string | undefined;
  readonly proxyFlags?: ProxyFlagTexts;
  readonly notes?: readonly string[];
}

export interface PacketContextNode extends NodePlace {
  /** Of files, a node may have none. */
  readonly addresses: readonly string[];
  readonly podRanges?: readonly string[];
}

/** Throws a UserError when the text is no packet, or names what is not there. */
export function explainPacketOn(context: PacketContext, request: PacketRequest): PacketDecision {
  const { mode, podRanges, serviceRanges, nodes, firstNodeRanges, resolved, notes } = context;
  const question = parsePacketQuestion(request.packet);
  const given = request.node === undefined ? undefined : nodeNamed(context, request.node);
  const asked = given ?? nodeOfSource(question, context);
  const packet = addressed(question, context, asked);
  const node = given ?? decidingNode(packet, context);
  const rows = () => [...resolved.values()].flatMap((service) => servicePortsOf(service, node));
  const place: PacketNode = {
    name: node.name,
    addresses: node.addresses,
    ...(node.podRanges ? { podRanges: node.podRanges } : {}),
    localRanges: node === nodes[0] ? firstNodeRanges : [],
  };
  const decision = explainPacket(packet, place, context.table?.(node.name) ?? { values: rows }, {
    mode,
    names: ruleNames(mode),
    ...(podRanges ? { podRanges } : {}),
    ...(serviceRanges ? { serviceRanges } : {}),
    ...flagOptions(mode, context.proxyFlags ?? {}, node, ipFamily(packet.destination.address) ?? 4),
    ...(context.unserved ? { unserved: (...of) => context.unserved?.(node.name, ...of) } : {}),
    resolved: (key) => resolved.get(key),
    nodeAt: (address) =>
      rangeWith(firstNodeRanges, address)
        ? nodes[0]?.name
        : nodes.find(({ addresses }) => addresses.includes(address))?.name,
  });
  return notes ? { ...decision, notes } : decision;
}

/** As the backends are set up in `embedded-nodes.ts`. */
function flagOptions(mode: PacketMode, flags: ProxyFlagTexts, node: PacketContextNode, family: IpFamily) {
  if (mode === "userspace") return { nodePortAddresses: node.addresses };
  const addresses = nodePortAddresses(flags, mode, family, node.addresses);
  const own = node.podRanges ?? [];
  const detector = flags["detect-local-mode"] ?? "ClusterCIDR";
  const ranges = detector === "ClusterCIDR" ? flags["cluster-cidr"]?.split(",") : own;
  return {
    ...(flags["masquerade-all"] ? { masqueradeAll: true } : {}),
    ...(ranges ? { podRanges: ranges } : {}),
    ...(mode === "iptables" ? { localhostNodePorts: localhostNodePorts(flags, family) } : {}),
    ...(addresses ? { nodePortAddresses: addresses } : {}),
  };
}

function nodeNamed({ nodes }: PacketContext, name: string): PacketContextNode {
  const node = nodes.find((one) => one.name === name);
  if (node) return node;
  throw new UserError(`there is no node "${name}"`, {
    remedy: `There are: ${nodes.map((one) => one.name).join(", ")}`,
  });
}

/** Where the packet begins, when the question says so; otherwise the first node, where what comes from outside arrives. */
function nodeOfSource({ source: { place } }: PacketQuestion, context: PacketContext): PacketContextNode {
  if (place.kind === "node" && place.name !== undefined) return nodeNamed(context, place.name);
  const pod = place.kind === "object" ? podNamed(context, place) : undefined;
  const name = pod?.spec?.nodeName;
  return context.nodes.find((node) => node.name === name) ?? context.nodes[0]!;
}

/** The node whose own address is asked for, else the one the source is on, else the one that packets from outside come to. */
function decidingNode(packet: Packet, context: PacketContext): PacketContextNode {
  const { nodes, pods } = context;
  const withAddress = (address: string) => nodes.find(({ addresses }) => addresses.includes(address));
  const target = withAddress(packet.destination.address);
  if (target) return target;
  const source = withAddress(packet.source.address);
  if (source) return source;
  for (const pod of pods.values() as Iterable<Pod>) {
    if (!addressesOf(pod).includes(packet.source.address) || pod.spec?.hostNetwork) continue;
    const node = nodes.find(({ name }) => name === pod.spec?.nodeName);
    if (node) return node;
  }
  // A pod that is not there (any more) would be on the node that has its range.
  const ofRange = nodes.find((one) => rangeWith(one.podRanges ?? [], packet.source.address));
  return ofRange ?? balancedNode(packet, context) ?? nodes[0]!;
}

/** The first of the nodes that the stack's load balancer sends what comes from outside to, where it chooses. */
function balancedNode({ destination, protocol }: Packet, context: PacketContext): PacketContextNode | undefined {
  const { mode, nodes, table, firstNodeRanges } = context;
  // Nodes of the loopback network share the addresses, and the first one serves them.
  if (mode === "userspace") return undefined;
  if (rangeWith(firstNodeRanges, destination.address) === undefined) return undefined;
  const rows = nodes.map(({ name }) =>
    [...(table?.(name)?.values() ?? [])].find(
      (row) =>
        row.port === destination.port && row.protocol === protocol && row.loadBalancerIPs.includes(destination.address),
    ),
  );
  const number = balancedPort(rows.map((row) => ({ now: row, inForce: row })))?.nodes[0];
  return number === undefined ? undefined : nodes[number - 1];
}

function addressed(question: PacketQuestion, context: PacketContext, node: PacketContextNode): Packet {
  const { protocol, source, destination } = question;
  const given = source.place.kind === "address" ? ipFamily(source.place.address) : undefined;
  const to = addressOf(destination.place, context, node, "destination", given);
  const from = addressOf(source.place, context, node, "source", ipFamily(to));
  if (ipFamily(from) !== ipFamily(to)) {
    throw new UserError(`packet '${from} -> ${to}': source and destination are of different IP families`, {
      exitCode: 2,
    });
  }
  return {
    protocol,
    source: { address: from, port: source.port },
    destination: { address: to, port: destination.port },
  };
}

function addressOf(
  place: PacketPlace,
  context: PacketContext,
  node: PacketContextNode,
  end: "source" | "destination",
  family?: 4 | 6,
): string {
  if (place.kind === "address") return place.address;
  if (place.kind === "node") {
    const { name, addresses } = place.name === undefined ? node : nodeNamed(context, place.name);
    const own = addresses.find((one) => family === undefined || ipFamily(one) === family) ?? addresses[0];
    if (own !== undefined) return own;
    throw new UserError(`the address of ${name} is not known`, { remedy: `Write the ${end} as an address.` });
  }
  const name = `${place.namespace}/${place.name}`;
  if (end === "source") {
    const all = addressesOf(podNamed(context, place));
    const address = all.find((one) => family === undefined || ipFamily(one) === family) ?? all[0];
    if (address) return address;
    throw new UserError(`pod "${name}" has no address yet`, { remedy: "Write the packet's source as an address." });
  }
  const service = context.resolved.get(name);
  if (!service) {
    throw new UserError(`there is no Service "${name}"`, {
      remedy: "Destinations are addresses, node, node/NAME, or NAMESPACE/SERVICE.",
    });
  }
  const { clusterIP = "", clusterIPs = [clusterIP] } = service.spec;
  const ofFamily = clusterIPs.find((one) => family !== undefined && ipFamily(one) === family) ?? clusterIP;
  if (ipFamily(ofFamily) !== undefined) return ofFamily;
  throw new UserError(`Service "${name}" has no cluster IP`, {
    remedy: "Its name leads to its pods' own addresses; no rule takes those.",
  });
}

function podNamed({ pods }: PacketContext, { namespace, name }: { namespace: string; name: string }): Pod {
  const pod = pods.get(`${namespace}/${name}`);
  if (pod) return pod as Pod;
  throw new UserError(`there is no pod "${namespace}/${name}"`, {
    remedy: "Sources are addresses, node, node/NAME, or NAMESPACE/POD.",
  });
}

function addressesOf({ status }: Pod): readonly string[] {
  const all = status?.podIPs?.flatMap(({ ip }) => (ip ? [ip] : [])) ?? [];
  return all.length === 0 && status?.podIP ? [status.podIP] : all;
}
