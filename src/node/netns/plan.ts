// What `ip` has to be told so that nodes and pods are there: pure functions from names and addresses to batches.
//
//   host ── fl-<stack>.h ══ host0 ── node 1 ── eth0 ══ bridge of the fabric ══ eth0 ── node 2 …
//                                      └─ pod… ══ eth0 of each pod
//
// Everything is routed, nothing but the fabric is bridged: a pod has one address of its own a family (/32, /128) and its node
// as gateway, so that the node's rules see every packet, also between two pods of one node. The fabric answers what leads
// nowhere with "unreachable", at once. Load-balancer addresses are local to node 1 (AnyIP), so that a proxy can listen on any of
// them. Neighbours are told and not asked for where a gateway's address is not on the link itself: IPv6 would not answer.

import { addressAt, formatCidr, parseCidr, subCidr } from "../../base/cidr.ts";
import { UserError } from "../../base/errors.ts";
import { type IpFamily, ipFamily, parseIPv4, parseIPv6 } from "../../base/ip.ts";
import type { NetworkRanges, NodePlace, PodSandbox } from "../network.ts";
import type { IpBatch } from "./ip.ts";
import { fabricLink, fabricNetns, hostLink, nodeNetns, podLink, podNetns } from "./names.ts";

/** The node's end of every pod link, and of the host's, has this hardware address, so that nobody need ask for it. */
const gatewayMac = "ee:ee:ee:ee:ee:ee";
/** The host's end of its link. */
const hostMac = "ee:ee:ee:ee:ee:ed";

/** How long the prefix of a node's part of a pod range is (kube-controller-manager's --node-cidr-mask-size-ipv4, -ipv6). */
export const nodePrefix: Readonly<Record<IpFamily, number>> = { 4: 24, 6: 64 };

/** The addresses that are no node's: the fabric's and the host's, at the end of the node range. */
export function fabricAddress(ranges: NetworkRanges): string {
  return fromEnd(ranges.nodes, 3);
}
export function hostAddress(ranges: NetworkRanges): string {
  return fromEnd(ranges.nodes, 2);
}

/** Node `index` (0 is node 1) gets address `index + 1` of each node range and part number `index` of each pod range. */
export function nodePlace(families: readonly NetworkRanges[], name: string, index: number): NodePlace {
  const addresses = families.map((ranges) => {
    const nodes = range(ranges.nodes);
    if (BigInt(index) < nodes.size - 4n) return addressAt(nodes, index + 1);
    throw new UserError(`the node range ${ranges.nodes} has no address for node number ${index + 1}`, {
      remedy: "choose a larger one with --node-cidr",
    });
  });
  const podRanges = families.map((ranges) => {
    const pods = range(ranges.pods);
    const prefix = nodePrefix[pods.family];
    try {
      return formatCidr(subCidr(pods, prefix, index));
    } catch {
      throw new UserError(`the pod range ${ranges.pods} has no /${prefix} for node number ${index + 1}`, {
        remedy: "choose a larger one with --pod-cidr",
      });
    }
  });
  return { name, addresses, podRanges };
}

/** The host's side: one link, its addresses, one route a range. Run in the host's namespace once node 1 is there. */
export function hostBatch(stack: string, families: readonly NetworkRanges[], first: NodePlace): IpBatch {
  const link = hostLink(stack);
  return {
    netns: undefined,
    lines: [
      `link add ${link} address ${hostMac} type veth peer name host0 address ${gatewayMac} netns ${nodeNetns(stack, first.name)}`,
      ...families.map((ranges) => addAddress(hostAddress(ranges), link)),
      `link set ${link} up`,
      ...families.flatMap((ranges, at) => {
        const node = first.addresses[at]!;
        return [
          `neigh replace ${node} lladdr ${gatewayMac} dev ${link} nud permanent`,
          ...[ranges.pods, ranges.services, ranges.loadBalancers, ranges.nodes].map((to) =>
            hostRoute(stack, ranges, first, to),
          ),
        ];
      }),
    ],
  };
}

/** The line that leads the host to a range by node 1. */
export function hostRoute(stack: string, ranges: NetworkRanges, first: NodePlace, to: string): string {
  const node = first.addresses.find((one) => ipFamily(one) === range(to).family);
  return `route add ${to} via ${node} dev ${hostLink(stack)} onlink src ${hostAddress(ranges)}`;
}

export function fabricBatch(stack: string, families: readonly NetworkRanges[], first: NodePlace): IpBatch {
  return {
    netns: fabricNetns(stack),
    lines: [
      "link set lo up",
      // Without snooping, what nodes ask of their neighbours reaches all of them.
      "link add br0 type bridge mcast_snooping 0",
      ...families.map((ranges) => addAddress(fabricAddress(ranges), "br0", range(ranges.nodes).prefix)),
      "link set br0 up",
      ...families.flatMap((ranges, at) => [
        `route add ${hostAddress(ranges)} via ${first.addresses[at]} dev br0`,
        `route add unreachable ${everywhere(ranges)}`,
      ]),
    ],
  };
}

/** Joins nodes to the fabric, which must know the way back to their pods: run in its namespace once the nodes' are there. */
export function fabricLinksBatch(stack: string, nodes: readonly NodePlace[]): IpBatch {
  return {
    netns: fabricNetns(stack),
    lines: nodes.flatMap(({ name, addresses, podRanges }) => {
      const link = fabricLink(name);
      const peer = `peer name eth0 netns ${nodeNetns(stack, name)}`;
      return [
        `link add ${link} type veth ${peer}`,
        `link set ${link} master br0 up`,
        ...podRanges.map((podRange, at) => `route replace ${podRange} via ${addresses[at]} dev br0`),
      ];
    }),
  };
}

/** A node's own addresses and routes: run in its namespace once its link to the fabric is there. */
export function nodeBatch(
  stack: string,
  families: readonly NetworkRanges[],
  node: NodePlace,
  isFirst: boolean,
): IpBatch {
  return {
    netns: nodeNetns(stack, node.name),
    lines: [
      "link set lo up",
      ...families.map((ranges, at) => addAddress(node.addresses[at]!, "eth0", range(ranges.nodes).prefix)),
      "link set eth0 up",
      ...families.flatMap((ranges, at) => {
        const source = `src ${node.addresses[at]}`;
        return [
          ...(isFirst ? [`route add local ${ranges.loadBalancers} dev lo ${source}`] : []),
          `route add ${everywhere(ranges)} via ${fabricAddress(ranges)} dev eth0 ${source}`,
        ];
      }),
    ],
  };
}

/** Node 1's end of the link to the host: run in its namespace once the link is there. */
export function hostJoinBatch(stack: string, families: readonly NetworkRanges[], first: NodePlace): IpBatch {
  return {
    netns: nodeNetns(stack, first.name),
    lines: [
      "link set host0 up",
      ...families.flatMap((ranges, at) => [
        `neigh replace ${hostAddress(ranges)} lladdr ${hostMac} dev host0 nud permanent`,
        `route add ${hostAddress(ranges)} dev host0 src ${first.addresses[at]}`,
      ]),
    ],
  };
}

/** How a node reaches the pods of the others, the host, and the load balancers: to be run again when nodes join. */
export function nodeRoutesBatch(
  stack: string,
  families: readonly NetworkRanges[],
  node: NodePlace,
  all: readonly NodePlace[],
): IpBatch {
  const first = all[0]!;
  const lines = families.flatMap((ranges, at) => {
    const route = (to: string, by: NodePlace) =>
      `route replace ${to} via ${by.addresses[at]} dev eth0 src ${node.addresses[at]}`;
    const others = all.filter((other) => other.name !== node.name);
    return [
      ...others.map((other) => route(other.podRanges[at]!, other)),
      ...(node.name === first.name ? [] : [hostAddress(ranges), ranges.loadBalancers].map((to) => route(to, first))),
    ];
  });
  return { netns: nodeNetns(stack, node.name), lines };
}

/** The node's side of its pods' links: one batch for all of them. */
export function podLinksBatch(stack: string, node: NodePlace, pods: readonly PodSandbox[]): IpBatch {
  return {
    netns: nodeNetns(stack, node.name),
    lines: pods.flatMap((pod) => {
      const link = podLink(pod.uid);
      const mac = podMac(pod.addresses[0] ?? "");
      const peer = `peer name eth0 address ${mac} netns ${podNetns(stack, pod)}`;
      return [
        `link add ${link} address ${gatewayMac} type veth ${peer}`,
        `link set ${link} up`,
        ...pod.addresses.flatMap((address, at) => [
          `neigh replace ${address} lladdr ${mac} dev ${link} nud permanent`,
          `route replace ${single(address)} dev ${link} src ${node.addresses[at]}`,
        ]),
      ];
    }),
  };
}

/** The pod's own side. */
export function podBatch(stack: string, node: NodePlace, pod: PodSandbox): IpBatch {
  return {
    netns: podNetns(stack, pod),
    lines: [
      "link set lo up",
      ...pod.addresses.map((address) => addAddress(address, "eth0")),
      "link set eth0 up",
      ...pod.addresses.flatMap((address) => {
        const gateway = node.addresses.find((one) => ipFamily(one) === ipFamily(address));
        return [
          `neigh replace ${gateway} lladdr ${gatewayMac} dev eth0 nud permanent`,
          `route add ${ipFamily(address) === 6 ? "::/0" : "default"} via ${gateway} dev eth0 onlink`,
        ];
      }),
    ],
  };
}

/** The line that gives a link an address: at once in IPv6, too, where nobody else can have it. */
function addAddress(address: string, link: string, prefix?: number): string {
  const text = prefix === undefined ? single(address) : `${address}/${prefix}`;
  return `addr replace ${text} dev ${link}${ipFamily(address) === 6 ? " nodad" : ""}`;
}

/** A locally administered hardware address made from the pod's address (as CNI's plugins do it), of IPv6 its last four bytes. */
export function podMac(address: string): string {
  const value = parseIPv4(address) ?? Number((parseIPv6(address) ?? 0n) & 0xffff_ffffn);
  const bytes = [0x0a, 0x58, value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function range(text: string) {
  const cidr = parseCidr(text);
  if (!cidr) throw new UserError(`${text} is no address range`);
  return cidr;
}

/** `10.244.0.5/32`, `fd00::5/128`. */
function single(address: string): string {
  return `${address}/${ipFamily(address) === 6 ? 128 : 32}`;
}

/** Where everything else leads: `ip` takes the family of a batch's line from its addresses, and `default` has none. */
function everywhere({ nodes }: NetworkRanges): string {
  return range(nodes).family === 6 ? "::/0" : "default";
}

/** Of a large range the end of its first 65,536 addresses, which reads better (fd00::fffe). */
function fromEnd(text: string, places: number): string {
  const cidr = range(text);
  const size = cidr.size > 0x1_0000n ? 0x1_0000n : cidr.size;
  return addressAt(cidr, size - BigInt(places));
}
