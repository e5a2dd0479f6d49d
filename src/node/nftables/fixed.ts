// What is in the table before any Service: sets and maps, base chains with their hooks, and the chains whose rules never change
// (pkg/proxy/nftables/proxier.go setupNFTables, kube-proxy 1.36).

import { canonicalAddress, type IpFamily } from "../../base/ip.ts";
import type { LocalDetector } from "../iptables/fixed-chains.ts";
import { canonicalRange, isAddress, mergedRanges, oneOrSet } from "./addresses.ts";
import { chainPiece, elementPiece, mapPiece, setPiece, tablePiece } from "./pieces.ts";

export interface NftablesOptions {
  readonly family: IpFamily;
  readonly localDetector?: LocalDetector;
  /** Masquerade all traffic to ClusterIPs. */
  readonly masqueradeAll?: boolean;
  /** The bit of the packet mark that asks for SNAT; 14 as in kube-proxy. */
  readonly masqueradeBit?: number;
  /** The node's own addresses that take NodePort traffic; all local addresses but loopback ones unless given. */
  readonly nodePortAddresses?: readonly string[];
  /** The node's address: lets the node itself through loadBalancerSourceRanges that contain it. */
  readonly nodeAddress?: string;
  /** The ranges that ClusterIPs come from: what goes to an address of them that no Service has is dropped. */
  readonly serviceCidrs?: readonly string[];
}

/** kube-proxy's table. Fairlead writes the same one: two programs that serve Services do not run on one node. */
export const tableName = "kube-proxy";

/** Comments of the fixed objects, by piece. They are written, and not compared: not every nft shows them as JSON. */
export const fixedComments: Readonly<Record<string, string>> = {
  [tablePiece]: "rules for kube-proxy",
  [setPiece("cluster-ips")]: "Active ClusterIPs",
  [setPiece("nodeport-ips")]: "IPs that accept NodePort traffic",
  [setPiece("hairpin-connections")]: "service hairpin connections",
  [mapPiece("no-endpoint-services")]: "vmap to drop or reject packets to services with no endpoints",
  [mapPiece("no-endpoint-nodeports")]: "vmap to drop or reject packets to service nodeports with no endpoints",
  [mapPiece("firewall-ips")]: "destinations that are subject to LoadBalancerSourceRanges",
  [mapPiece("service-ips")]: "ClusterIP, ExternalIP and LoadBalancer IP traffic",
  [mapPiece("service-nodeports")]: "NodePort traffic",
  [chainPiece("reject-chain")]: "helper for @no-endpoint-services / @no-endpoint-nodeports",
};

/** `ip` or `ip6`: the table's family, and the word in front of `daddr`. */
export function ipWord(family: IpFamily): "ip" | "ip6" {
  return family === 4 ? "ip" : "ip6";
}

export function addressType(family: IpFamily): string {
  return family === 4 ? "ipv4_addr" : "ipv6_addr";
}

/** `meta mark set meta mark | 0x00004000`: asks for SNAT on the way out. */
export function setMark(options: NftablesOptions): string {
  return `meta mark set meta mark | ${mark(options)}`;
}

function mark(options: NftablesOptions): string {
  return hex(2 ** (options.masqueradeBit ?? 14));
}

/** `0x00004000`. */
export function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}

/** The condition that a packet comes from a pod of this node (or with `not`, that it does not); undefined without a detector. */
export function fromPods(options: NftablesOptions, not: "" | "!= "): string | undefined {
  const detector = options.localDetector;
  switch (detector?.kind) {
    case "cidr":
      return `${ipWord(options.family)} saddr ${not}${canonicalRange(detector.cidr) ?? detector.cidr}`;
    case "bridge":
      return `iifname ${not}"${detector.name}"`;
    case "prefix":
      return `iifname ${not}"${detector.prefix}*"`;
    default:
      return undefined;
  }
}

/** `… comment "why"`. */
export function withComment(rule: string, comment: string): string {
  return `${rule} comment "${comment}"`;
}

/** All pieces that no Service changes. */
export function fixedPieces(options: NftablesOptions): ReadonlyMap<string, readonly string[]> {
  const address = addressType(options.family);
  const pieces = new Map<string, readonly string[]>([
    [tablePiece, []],
    [setPiece("cluster-ips"), [`type ${address}`]],
    [setPiece("hairpin-connections"), [`type ${address} . ${address} . inet_proto . inet_service`]],
    [mapPiece("no-endpoint-services"), [`type ${address} . inet_proto . inet_service : verdict`]],
    [mapPiece("no-endpoint-nodeports"), ["type inet_proto . inet_service : verdict"]],
    [mapPiece("firewall-ips"), [`type ${address} . inet_proto . inet_service : verdict`]],
    [mapPiece("service-ips"), [`type ${address} . inet_proto . inet_service : verdict`]],
    [mapPiece("service-nodeports"), ["type inet_proto . inet_service : verdict"]],
  ]);
  if (options.nodePortAddresses) {
    pieces.set(setPiece("nodeport-ips"), [`type ${address}`]);
    for (const one of options.nodePortAddresses) {
      if (!isAddress(options.family, one)) continue;
      const key = canonicalAddress(one);
      pieces.set(elementPiece("nodeport-ips", key), [key]);
    }
  }
  for (const [name, lines] of chains(options)) pieces.set(chainPiece(name), lines);
  return pieces;
}

function chains(options: NftablesOptions): readonly (readonly [string, readonly string[]])[] {
  const ip = ipWord(options.family);
  const hook = (type: string, at: string, priority: number) =>
    `type ${type} hook ${at} priority ${priority}; policy accept;`;
  const whenNew = "ct state new jump";
  // NodePorts do not answer on loopback addresses. What comes to `filter-input` is known to be for this node.
  const notLoopback = `${ip} daddr != ${options.family === 4 ? "127.0.0.0/8" : "::1"}`;
  const ofNode = options.nodePortAddresses ? `${ip} daddr @nodeport-ips` : notLoopback;
  const toNode = options.nodePortAddresses ? ofNode : `fib daddr type local ${notLoopback}`;
  const destination = `${ip} daddr . meta l4proto . th dport`;
  const masquerade = "masquerade fully-random";
  const bit = mark(options);
  return [
    ["filter-prerouting-pre-dnat", [hook("filter", "prerouting", -110), `${whenNew} firewall-check`]],
    ["filter-output-pre-dnat", [hook("filter", "output", -110), `${whenNew} firewall-check`]],
    [
      "filter-input",
      [hook("filter", "input", 0), `${whenNew} nodeport-endpoints-check`, `${whenNew} service-endpoints-check`],
    ],
    [
      "filter-forward",
      [hook("filter", "forward", 0), `${whenNew} service-endpoints-check`, `${whenNew} cluster-ips-check`],
    ],
    [
      "filter-output",
      [hook("filter", "output", 0), `${whenNew} service-endpoints-check`, `${whenNew} cluster-ips-check`],
    ],
    ["nat-prerouting", [hook("nat", "prerouting", -100), "jump services"]],
    ["nat-output", [hook("nat", "output", -100), "jump services"]],
    ["nat-postrouting", [hook("nat", "postrouting", 100), "jump masquerading"]],
    ["nodeport-endpoints-check", [`${ofNode} meta l4proto . th dport vmap @no-endpoint-nodeports`]],
    ["service-endpoints-check", [`${destination} vmap @no-endpoint-services`]],
    ["firewall-check", [`${destination} vmap @firewall-ips`]],
    [
      "services",
      [
        ...clusterIpMasquerade(options),
        `${destination} vmap @service-ips`,
        `${toNode} meta l4proto . th dport vmap @service-nodeports`,
      ],
    ],
    [
      "masquerading",
      [
        `meta mark & ${bit} != 0x00000000 meta mark set meta mark ^ ${bit} ${masquerade}`,
        `ct status dnat ${ip} saddr . ${ip} daddr . meta l4proto . th dport @hairpin-connections ${masquerade}`,
      ],
    ],
    ["cluster-ips-check", clusterIpsCheck(options)],
    ["reject-chain", ["reject"]],
  ];
}

function clusterIpMasquerade(options: NftablesOptions): readonly string[] {
  const toClusterIp = `${ipWord(options.family)} daddr @cluster-ips`;
  if (options.masqueradeAll) {
    return [withComment(`${toClusterIp} ${setMark(options)}`, "masquerade all clusterIP traffic")];
  }
  const outside = fromPods(options, "!= ");
  if (outside === undefined) return [];
  const why = "masquerade clusterIP traffic from outside cluster";
  return [withComment(`${toClusterIp} ${outside} ${setMark(options)}`, why)];
}

function clusterIpsCheck(options: NftablesOptions): readonly string[] {
  const ip = ipWord(options.family);
  const refuse = withComment(`${ip} daddr @cluster-ips reject`, "Reject traffic to invalid ports of ClusterIPs");
  const ranges = mergedRanges(options.family, options.serviceCidrs ?? []);
  if (ranges === "everything" || ranges.length === 0) return [refuse];
  return [refuse, withComment(`${ip} daddr ${oneOrSet(ranges)} drop`, "Drop traffic to unallocated ClusterIPs")];
}
