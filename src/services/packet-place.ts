// A packet, the node it meets, and how the two stand to each other: what the kernel takes for the node's own, which hooks the
// packet passes, and whether a pod sent it.

import { contains, parseCidr } from "../base/cidr.ts";
import { ipFamily } from "../base/ip.ts";
import type { Protocol } from "./objects.ts";
import type { Hook, PacketMode, RuleNames } from "./packet-modes.ts";
import type { ResolvedService } from "./resolved-service.ts";

/** The first packet of a connection, as it arrives at a node. Addresses are in canonical form and of one family. */
export interface Packet {
  readonly protocol: Protocol;
  readonly source: { readonly address: string; readonly port: number | undefined };
  readonly destination: { readonly address: string; readonly port: number };
}

/** The node whose rules are asked. */
export interface PacketNode {
  readonly name: string;
  /** Its own addresses; the first one of a family is what masqueraded packets have as their source. */
  readonly addresses: readonly string[];
  /** Further ranges that the kernel takes for the node's own (a range of load-balancer addresses it answers for). */
  readonly localRanges?: readonly string[];
  /** This node's own pods, the part of `podRanges` that is here: answers to others do not come back through this node. */
  readonly podRanges?: readonly string[];
}

export interface PacketOptions {
  readonly mode: PacketMode;
  readonly names: RuleNames;
  /** Pods' addresses; without them pods cannot be told from others, and nothing to a cluster IP is masqueraded for that. */
  readonly podRanges?: readonly string[];
  readonly serviceRanges?: readonly string[];
  readonly masqueradeAll?: boolean;
  /** Whether node ports answer on 127.0.0.0/8. */
  readonly localhostNodePorts?: boolean;
  /** The node's addresses that take node ports; all that are local unless given. */
  readonly nodePortAddresses?: readonly string[];
  /** Why an address and port of a Service are not served here, where that depends on more than the rules. */
  readonly unserved?: (protocol: Protocol, address: string, port: number) => string | undefined;
  /** The Service behind a row, by `namespace/name`: for fields, pods, and endpoints that are left out. */
  readonly resolved?: (key: string) => ResolvedService | undefined;
  /** The name of the node that has an address. */
  readonly nodeAt?: (address: string) => string | undefined;
}

export interface PacketPlace {
  readonly isLocal: (address: string) => boolean;
  readonly nodeAddresses: readonly string[];
  readonly fromNode: boolean;
  /** Undefined when pods cannot be told from others. */
  readonly fromPod: boolean | undefined;
  readonly hooks: readonly Hook[];
  /** Whether answers to the source pass this node, whoever sends them; undefined when that is not known. */
  readonly answersPass: boolean | undefined;
}

export function placeOf(packet: Packet, node: PacketNode, options: PacketOptions): PacketPlace {
  const own = new Set(node.addresses);
  const isLocal = (address: string) =>
    own.has(address) || isLoopback(address) || rangeWith(node.localRanges ?? [], address) !== undefined;
  const fromNode = isLocal(packet.source.address);
  const toNode = isLocal(packet.destination.address);
  const { podRanges } = options;
  return {
    isLocal,
    nodeAddresses: node.addresses,
    fromNode,
    fromPod: podRanges && rangeWith(podRanges, packet.source.address) !== undefined,
    answersPass: fromNode || answersPass(packet.source.address, node, options),
    hooks: fromNode ? (toNode ? ["output", "input"] : ["output"]) : [toNode ? "input" : "forward"],
  };
}

/** For what other places than the node itself send: only on a pod's own node answers come along. */
function answersPass(source: string, node: PacketNode, { podRanges }: PacketOptions): boolean | undefined {
  if (rangeWith(podRanges ?? [], source) !== undefined) {
    return node.podRanges && rangeWith(node.podRanges, source) !== undefined;
  }
  return podRanges === undefined ? undefined : false;
}

/** Whether node ports answer on a destination address. */
export function takesNodePorts(address: string, place: Pick<PacketPlace, "isLocal">, options: PacketOptions): boolean {
  if (options.nodePortAddresses) return options.nodePortAddresses.includes(address);
  if (isLoopback(address)) return ipFamily(address) === 4 && (options.localhostNodePorts ?? false);
  return place.isLocal(address);
}

export function isLoopback(address: string): boolean {
  return address === "::1" || (address.startsWith("127.") && ipFamily(address) === 4);
}

/** The first of `ranges` (CIDR notation; what is none is passed over) that has `address`. */
export function rangeWith(ranges: readonly string[], address: string): string | undefined {
  return ranges.find((range) => {
    const cidr = parseCidr(range);
    return cidr !== undefined && contains(cidr, address);
  });
}
