// What `ip` has to be told so that nodes and pods are there: pure functions from names and addresses to batches.
//
//   host ── fl-<stack>.h ══ host0 ── node 1 ── eth0 ══ bridge of the fabric ══ eth0 ── node 2 …
//                                      └─ pod… ══ eth0 of each pod
//
// Everything is routed, nothing but the fabric is bridged: a pod has one address of its own (/32) and its node as gateway,
// so that the node's rules see every packet, also between two pods of one node. The fabric answers what leads nowhere with
// "unreachable", at once. Load-balancer addresses are local to node 1 (AnyIP), so that a proxy can listen on any of them.

import { addressAt, formatCidr, parseCidr, subCidr } from "../../base/cidr.ts";
import { UserError } from "../../base/errors.ts";
import { parseIPv4 } from "../../base/ip.ts";
import type { NetworkRanges, NodePlace, PodSandbox } from "../network.ts";
import type { IpBatch } from "./ip.ts";
import { fabricLink, fabricNetns, hostLink, nodeNetns, podLink, podNetns } from "./names.ts";

/** The node's end of every pod link has this hardware address, so that pods need not ask for it. */
const gatewayMac = "ee:ee:ee:ee:ee:ee";

/** The addresses that are no node's: the fabric's and the host's, at the end of the node range. */
export function fabricAddress(ranges: NetworkRanges): string {
  return fromEnd(ranges.nodes, 3);
}
export function hostAddress(ranges: NetworkRanges): string {
  return fromEnd(ranges.nodes, 2);
}

/** Node `index` (0 is node 1) gets address `index + 1` of the node range and the /24 number `index` of the pod range. */
export function nodePlace(ranges: NetworkRanges, name: string, index: number): NodePlace {
  const nodes = range(ranges.nodes);
  if (BigInt(index) >= nodes.size - 4n) {
    throw new UserError(`the node range ${ranges.nodes} has no address for node number ${index + 1}`, {
      remedy: "choose a larger one with --node-cidr",
    });
  }
  try {
    const podRange = formatCidr(subCidr(range(ranges.pods), 24, index));
    return { name, address: addressAt(nodes, index + 1), podRange };
  } catch {
    throw new UserError(`the pod range ${ranges.pods} has no /24 for node number ${index + 1}`, {
      remedy: "choose a larger one with --pod-cidr",
    });
  }
}

/** The host's side: one link, its address, one route a range. Run in the host's namespace once node 1 is there. */
export function hostBatch(stack: string, ranges: NetworkRanges, first: NodePlace): IpBatch {
  const link = hostLink(stack);
  const own = hostAddress(ranges);
  const routes = [ranges.pods, ranges.services, ranges.loadBalancers, ranges.nodes];
  return {
    netns: undefined,
    lines: [
      `link add ${link} type veth peer name host0 netns ${nodeNetns(stack, first.name)}`,
      `addr add ${own}/32 dev ${link}`,
      `link set ${link} up`,
      ...routes.map((to) => `route add ${to} via ${first.address} dev ${link} onlink src ${own}`),
    ],
  };
}

export function fabricBatch(stack: string, ranges: NetworkRanges, first: NodePlace): IpBatch {
  return {
    netns: fabricNetns(stack),
    lines: [
      "link set lo up",
      "link add br0 type bridge",
      `addr add ${fabricAddress(ranges)}/${range(ranges.nodes).prefix} dev br0`,
      "link set br0 up",
      `route add ${hostAddress(ranges)} via ${first.address} dev br0`,
      "route add unreachable default",
    ],
  };
}

/** Joins nodes to the fabric, which must know the way back to their pods: run in its namespace once the nodes' are there. */
export function fabricLinksBatch(stack: string, nodes: readonly NodePlace[]): IpBatch {
  return {
    netns: fabricNetns(stack),
    lines: nodes.flatMap(({ name, address, podRange }) => {
      const link = fabricLink(name);
      const peer = `peer name eth0 netns ${nodeNetns(stack, name)}`;
      return [
        `link add ${link} type veth ${peer}`,
        `link set ${link} master br0 up`,
        `route replace ${podRange} via ${address} dev br0`,
      ];
    }),
  };
}

/** A node's own addresses and routes: run in its namespace once its link to the fabric is there. */
export function nodeBatch(stack: string, ranges: NetworkRanges, node: NodePlace, isFirst: boolean): IpBatch {
  return {
    netns: nodeNetns(stack, node.name),
    lines: [
      "link set lo up",
      `addr add ${node.address}/${range(ranges.nodes).prefix} dev eth0`,
      "link set eth0 up",
      ...(isFirst ? [`route add local ${ranges.loadBalancers} dev lo src ${node.address}`] : []),
      `route add default via ${fabricAddress(ranges)} dev eth0 src ${node.address}`,
    ],
  };
}

/** Node 1's end of the link to the host: run in its namespace once the link is there. */
export function hostJoinBatch(stack: string, ranges: NetworkRanges, first: NodePlace): IpBatch {
  return {
    netns: nodeNetns(stack, first.name),
    lines: ["link set host0 up", `route add ${hostAddress(ranges)} dev host0 src ${first.address}`],
  };
}

/** How a node reaches the pods of the others, the host, and the load balancers: to be run again when nodes join. */
export function nodeRoutesBatch(
  stack: string,
  ranges: NetworkRanges,
  node: NodePlace,
  all: readonly NodePlace[],
): IpBatch {
  const first = all[0]!;
  const lines = all
    .filter((other) => other.name !== node.name)
    .map((other) => `route replace ${other.podRange} via ${other.address} dev eth0 src ${node.address}`);
  if (node.name !== first.name) {
    for (const to of [hostAddress(ranges), ranges.loadBalancers]) {
      lines.push(`route replace ${to} via ${first.address} dev eth0 src ${node.address}`);
    }
  }
  return { netns: nodeNetns(stack, node.name), lines };
}

/** The node's side of its pods' links: one batch for all of them. Addresses of neighbours are told, not asked for. */
export function podLinksBatch(stack: string, node: string, pods: readonly PodSandbox[]): IpBatch {
  return {
    netns: nodeNetns(stack, node),
    lines: pods.flatMap((pod) => {
      const link = podLink(pod.uid);
      const mac = podMac(pod.address);
      const peer = `peer name eth0 address ${mac} netns ${podNetns(stack, pod)}`;
      return [
        `link add ${link} address ${gatewayMac} type veth ${peer}`,
        `link set ${link} up`,
        `neigh replace ${pod.address} lladdr ${mac} dev ${link} nud permanent`,
        `route replace ${pod.address}/32 dev ${link}`,
      ];
    }),
  };
}

/** The pod's own side. */
export function podBatch(stack: string, gateway: string, pod: PodSandbox): IpBatch {
  return {
    netns: podNetns(stack, pod),
    lines: [
      "link set lo up",
      `addr add ${pod.address}/32 dev eth0`,
      "link set eth0 up",
      `neigh replace ${gateway} lladdr ${gatewayMac} dev eth0 nud permanent`,
      `route add default via ${gateway} dev eth0 onlink`,
    ],
  };
}

/** A locally administered hardware address made from the pod's IPv4 address (as CNI's plugins do it). */
export function podMac(address: string): string {
  const value = parseIPv4(address) ?? 0;
  const bytes = [0x0a, 0x58, value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function range(text: string) {
  const cidr = parseCidr(text);
  if (!cidr) throw new UserError(`${text} is no address range`);
  return cidr;
}

function fromEnd(text: string, places: number): string {
  const cidr = range(text);
  return addressAt(cidr, cidr.size - BigInt(places));
}
