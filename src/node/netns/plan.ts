// What `ip` has to be told so that nodes and pods are there: pure functions from names and addresses to batches.
//
//   host ── fl-<stack>.h ══ host0 ── fabric ── br0 ══ eth0 ── node 1 ── pod… ══ eth0 of each pod
//                                               └─── ══ eth0 ── node 2 …
//
// Everything is routed, nothing but the fabric is bridged: a pod has one address of its own a family (/32, /128) and its node
// as gateway, so that the node's rules see every packet, also between two pods of one node. The fabric answers what leads
// nowhere with "unreachable", at once. It is also the world's way in, and so the place of the load balancer: a packet with the mark
// of a node goes to that node (`load-balancer/`); other packets of the host that are for no pod and no node go to node 1.
// Load-balancer addresses are local to node 1 (AnyIP), so that a proxy can listen on any of them. Neighbours are told and not
// asked for where a gateway's address is not on the link itself: IPv6 would not answer.

import { addressAt, contains, formatCidr, overlaps, parseCidr, subCidr } from "../../base/cidr.ts";
import { UserError } from "../../base/errors.ts";
import { type IpFamily, ipFamily, parseIPv4, parseIPv6 } from "../../base/ip.ts";
import type { NetworkRanges, NodePlace, PodSandbox } from "../network.ts";
import { type HostRoute, type IpBatch, routeRange } from "./ip.ts";
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

/** The host's side: one link, its addresses, one route a range. Run in the host's namespace once the fabric is there. */
export function hostBatch(stack: string, families: readonly NetworkRanges[], first: NodePlace): IpBatch {
  const link = hostLink(stack);
  return {
    netns: undefined,
    lines: [
      `link add ${link} address ${hostMac} type veth peer name host0 address ${gatewayMac} netns ${fabricNetns(stack)}`,
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
function hostRoute(stack: string, ranges: NetworkRanges, first: NodePlace, to: string): string {
  const node = first.addresses.find((one) => ipFamily(one) === range(to).family);
  return `route add ${to} via ${node} dev ${hostLink(stack)} onlink src ${hostAddress(ranges)}`;
}

/**
 * What leads the host to these further ranges of Services and to no others that it was led to before; `routes` are the host's.
 * A range that the host has a way to already stays out, with the reason.
 */
export function hostServicesBatch(
  stack: string,
  families: readonly NetworkRanges[],
  first: NodePlace,
  wanted: readonly string[],
  routes: readonly HostRoute[],
): { readonly batch: IpBatch; readonly problems: readonly string[] } {
  const link = hostLink(stack);
  const own = families.flatMap((ranges) => Object.values(ranges) as string[]).map((text) => formatCidr(range(text)));
  const ours = routes.filter(({ dev, gateway }) => dev === link && first.addresses.includes(gateway ?? ""));
  const there = new Set(ours.flatMap((route) => routeRange(route) ?? []).map(formatCidr));
  const lines: string[] = [];
  const problems: string[] = [];
  const keep = new Set(own);
  for (const text of wanted) {
    const to = range(text);
    const name = formatCidr(to);
    const ranges = families.find(({ nodes }) => range(nodes).family === to.family);
    if (keep.has(name) || own.some((one) => contains(range(one), addressAt(to, 0)))) continue;
    const other = routes.find((route) => {
      const cidr = route.dev === link ? undefined : routeRange(route);
      return cidr !== undefined && cidr.prefix > 0 && overlaps(cidr, to);
    });
    if (!ranges) problems.push(`${name}: this stack has no IPv${to.family}`);
    else if (other)
      problems.push(`${name}: it overlaps the route ${other.dst} dev ${other.dev ?? "?"} of this machine`);
    else {
      keep.add(name);
      if (!there.has(name)) lines.push(hostRoute(stack, ranges, first, name));
    }
  }
  const stale = [...there].filter((name) => !keep.has(name)).map((name) => `route del ${name} dev ${link}`);
  return { batch: { netns: undefined, lines: [...stale, ...lines] }, problems };
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
        `route add ${everywhere(ranges)} via ${first.addresses[at]} dev br0 table ${tables.first}`,
        `route add unreachable ${everywhere(ranges)} table ${tables.nowhere}`,
      ]),
    ],
  };
}

/** Tables of the fabric's routes beside `main`, which has the nodes and their pods. */
const tables = {
  /** Where what the host sends goes that is no node's and no pod's. */
  first: 99,
  nowhere: 98,
  /** For packets with the mark of a node, which is its number from 1. */
  ofNode: (number: number) => 100 + number,
};

/** Which of the fabric's tables are asked, in order, one batch a family: run with the fabric's links. Rules that are there stay. */
export function fabricRulesBatches(stack: string, families: readonly NetworkRanges[], nodes: number): IpBatch[] {
  const marks = Array.from({ length: nodes }, (_, at) => at + 1);
  return families.map((ranges) => ({
    netns: fabricNetns(stack),
    family: range(ranges.nodes).family,
    lines: [
      ...marks.map((mark) => `rule add priority ${tables.ofNode(mark)} fwmark ${mark} lookup ${tables.ofNode(mark)}`),
      `rule add priority 33000 iif host0 lookup ${tables.first}`,
      `rule add priority 34000 lookup ${tables.nowhere}`,
    ],
    force: true,
  }));
}

/** Joins nodes to the fabric, which must know the way back to their pods: run in its namespace once the nodes' are there. */
export function fabricLinksBatch(stack: string, nodes: readonly NodePlace[], all: readonly NodePlace[]): IpBatch {
  return {
    netns: fabricNetns(stack),
    lines: nodes.flatMap((node) => {
      const { name, addresses, podRanges } = node;
      const link = fabricLink(name);
      const peer = `peer name eth0 netns ${nodeNetns(stack, name)}`;
      return [
        `link add ${link} type veth ${peer}`,
        `link set ${link} master br0 up`,
        ...podRanges.map((podRange, at) => `route replace ${podRange} via ${addresses[at]} dev br0`),
        ...addresses.map((address) => {
          const to = ipFamily(address) === 6 ? "::/0" : "default";
          return `route replace ${to} via ${address} dev br0 table ${tables.ofNode(all.indexOf(node) + 1)}`;
        }),
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

/** The fabric's end of the link to the host: run in its namespace once the link is there. */
export function hostJoinBatch(stack: string, families: readonly NetworkRanges[]): IpBatch {
  return {
    netns: fabricNetns(stack),
    lines: [
      "link set host0 up",
      ...families.flatMap((ranges) => [
        `neigh replace ${hostAddress(ranges)} lladdr ${hostMac} dev host0 nud permanent`,
        `route add ${hostAddress(ranges)} dev host0 src ${fabricAddress(ranges)}`,
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
    const lead = (to: string, by: string) => `route replace ${to} via ${by} dev eth0 src ${node.addresses[at]}`;
    const route = (to: string, by: NodePlace) => lead(to, by.addresses[at]!);
    const others = all.filter((other) => other.name !== node.name);
    return [
      ...others.map((other) => route(other.podRanges[at]!, other)),
      lead(hostAddress(ranges), fabricAddress(ranges)),
      ...(node.name === first.name ? [] : [route(ranges.loadBalancers, first)]),
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
