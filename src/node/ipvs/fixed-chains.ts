// The iptables chains of kube-proxy's ipvs mode (pkg/proxy/ipvs/proxier.go iptablesJumpChain, writeIptablesRules; 1.36): sets do
// the matching, so that their number does not grow with the Services. A rule that matches a set is there while the set has
// entries.

import type { IpFamily } from "../../base/ip.ts";
import type { LocalDetector } from "../iptables/fixed-chains.ts";
import { reject, rule } from "../iptables/rule-text.ts";
import { type Scheduler, type SetId, setName, sets } from "./names.ts";

export interface IpvsOptions {
  readonly family: IpFamily;
  /** How connections are spread; `rr` unless given. */
  readonly scheduler?: Scheduler;
  readonly localDetector?: LocalDetector;
  /** Masquerade all traffic to ClusterIPs. */
  readonly masqueradeAll?: boolean;
  /** The bit of the packet mark that asks for SNAT; 14 as in kube-proxy. */
  readonly masqueradeBit?: number;
  /** The node's own addresses, without loopback and without those of Services: they take NodePort traffic. */
  readonly nodeAddresses: readonly string[];
  /** The node's main address: lets the node itself through loadBalancerSourceRanges that contain it. */
  readonly nodeAddress?: string;
  /** Virtual servers in these ranges (CIDR) belong to somebody else and are left alone. */
  readonly excludeCidrs?: readonly string[];
  /** Answer ARP only on the device that has the address (load balancers that answer ARP themselves need it). */
  readonly strictArp?: boolean;
  /** Seconds that idle connections are kept; 0 leaves the kernel's own. */
  readonly timeouts?: { readonly tcp: number; readonly tcpFin: number; readonly udp: number };
}

/** Keys are `table/chain`. */
export type Chains = ReadonlyMap<string, readonly string[]>;

/** The rules at the top of built-in chains, in their final order. */
export function jumps(): Chains {
  const jump = (why: string, chain: string) => rule(comment(why), `-j ${chain}`);
  const firewall = jump("kube-proxy firewall rules", "KUBE-PROXY-FIREWALL");
  const access = "kubernetes ipvs access filter";
  const portals = jump("kubernetes service portals", "KUBE-SERVICES");
  return new Map([
    [
      "filter/INPUT",
      [jump(access, "KUBE-IPVS-FILTER"), firewall, jump("kubernetes health check rules", "KUBE-NODE-PORT")],
    ],
    ["filter/FORWARD", [firewall, jump("kubernetes forwarding rules", "KUBE-FORWARD")]],
    ["filter/OUTPUT", [jump(access, "KUBE-IPVS-OUT-FILTER")]],
    ["nat/PREROUTING", [portals]],
    ["nat/OUTPUT", [portals]],
    ["nat/POSTROUTING", [jump("kubernetes postrouting rules", "KUBE-POSTROUTING")]],
  ]);
}

/**
 * All chains. `has` says which sets have entries; `outFilter` are the rules that keep the node itself away from load-balancer
 * addresses whose source ranges do not contain it.
 */
export function chains(options: IpvsOptions, has: (set: SetId) => boolean, outFilter: readonly string[]): Chains {
  const { family } = options;
  const bare = `0x${(2 ** (options.masqueradeBit ?? 14)).toString(16)}`;
  const mark = `${bare}/${bare}`;
  const set = (id: SetId, fields: string) => `-m set --match-set ${setName(id, family)} ${fields}`;
  const why = (id: SetId) => comment(sets[id].comment);
  /** A rule for a set with entries, none for an empty one. */
  const when = (id: SetId, fields: string, target: string, before?: string) =>
    has(id) ? [rule(before, why(id), set(id, fields), `-j ${target}`)] : [];
  const nodePort = (protocol: string, local: SetId, all: SetId, fields: string) => [
    ...when(local, fields, "RETURN", `-p ${protocol}`),
    ...when(all, fields, "KUBE-MARK-MASQ", `-p ${protocol}`),
  ];
  const accept = (id: SetId) => (has(id) ? [rule(set(id, "dst,dst"), "-j ACCEPT")] : []);
  // What comes from off the machine, and what is bound for an address of the machine, goes to IPVS.
  const external = (id: SetId) => [
    ...(has(id)
      ? [
          "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT",
          "-m addrtype --dst-type LOCAL -j ACCEPT",
        ].map((match) => rule(why(id), set(id, "dst,dst"), match))
      : []),
  ];
  return new Map<string, readonly string[]>([
    [
      "nat/KUBE-SERVICES",
      [
        `-s ${family === 4 ? "127.0.0.0/8" : "::1/128"} -j RETURN`,
        ...when("KUBE-LOAD-BALANCER", "dst,dst", "KUBE-LOAD-BALANCER"),
        ...(has("KUBE-CLUSTER-IP") ? [masqueradeClusterIP(options, set)] : []),
        ...when("KUBE-EXTERNAL-IP", "dst,dst", "KUBE-MARK-MASQ"),
        ...external("KUBE-EXTERNAL-IP"),
        ...external("KUBE-EXTERNAL-IP-LOCAL"),
        "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
        ...accept("KUBE-CLUSTER-IP"),
        ...accept("KUBE-LOAD-BALANCER"),
      ],
    ],
    [
      "nat/KUBE-POSTROUTING",
      [
        ...when("KUBE-LOOP-BACK", "dst,dst,src", "MASQUERADE"),
        `-m mark ! --mark ${mark} -j RETURN`,
        `-j MARK --set-xmark ${bare}/0x0`,
        rule(comment("kubernetes service traffic requiring SNAT"), "-j MASQUERADE --random-fully"),
      ],
    ],
    [
      "nat/KUBE-NODE-PORT",
      [
        ...nodePort("tcp", "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-TCP", "dst"),
        ...nodePort("udp", "KUBE-NODE-PORT-LOCAL-UDP", "KUBE-NODE-PORT-UDP", "dst"),
        ...nodePort("sctp", "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-NODE-PORT-SCTP-HASH", "dst,dst"),
      ],
    ],
    ["nat/KUBE-LOAD-BALANCER", [...when("KUBE-LOAD-BALANCER-LOCAL", "dst,dst", "RETURN"), "-j KUBE-MARK-MASQ"]],
    ["nat/KUBE-MARK-MASQ", [`-j MARK --set-xmark ${mark}`]],
    [
      "filter/KUBE-FORWARD",
      [
        rule(comment("kubernetes forwarding rules"), `-m mark --mark ${mark}`, "-j ACCEPT"),
        rule(
          comment("kubernetes forwarding conntrack rule"),
          "-m conntrack --ctstate RELATED,ESTABLISHED",
          "-j ACCEPT",
        ),
      ],
    ],
    [
      "filter/KUBE-NODE-PORT",
      [rule(why("KUBE-HEALTH-CHECK-NODE-PORT"), set("KUBE-HEALTH-CHECK-NODE-PORT", "dst"), "-j ACCEPT")],
    ],
    ["filter/KUBE-PROXY-FIREWALL", when("KUBE-LOAD-BALANCER-FW", "dst,dst", "KUBE-SOURCE-RANGES-FIREWALL")],
    [
      "filter/KUBE-SOURCE-RANGES-FIREWALL",
      [
        ...when("KUBE-LOAD-BALANCER-SOURCE-CIDR", "dst,dst,src", "RETURN"),
        ...when("KUBE-LOAD-BALANCER-SOURCE-IP", "dst,dst,src", "RETURN"),
        "-j DROP",
      ],
    ],
    [
      // Services' addresses are local to the node, but ports that the node itself listens on are no business of theirs.
      "filter/KUBE-IPVS-FILTER",
      [
        ...(["KUBE-LOAD-BALANCER", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL"] as const).map(
          (id) => rule(set(id, "dst,dst"), "-j RETURN"),
        ),
        rule(set("KUBE-HEALTH-CHECK-NODE-PORT", "dst"), "-j RETURN"),
        rule("-m conntrack --ctstate NEW", set("KUBE-IPVS-IPS", "dst"), reject(family)),
      ],
    ],
    ["filter/KUBE-IPVS-OUT-FILTER", outFilter],
  ]);
}

/** What is not from a pod of this node's cluster must come back through this node (pkg/proxy/ipvs/proxier.go). */
function masqueradeClusterIP(options: IpvsOptions, set: (id: SetId, fields: string) => string): string {
  const { localDetector, masqueradeAll } = options;
  const why = comment(sets["KUBE-CLUSTER-IP"].comment);
  const target = "-j KUBE-MARK-MASQ";
  if (masqueradeAll) return rule(why, set("KUBE-CLUSTER-IP", "dst,dst"), target);
  // Without a way to tell pods from others: only what the node sends with a Service's address as its source.
  if (!localDetector) return rule(why, set("KUBE-CLUSTER-IP", "src,dst"), target);
  const notLocal =
    localDetector.kind === "cidr"
      ? `! -s ${localDetector.cidr}`
      : `! -i ${localDetector.kind === "bridge" ? localDetector.name : `${localDetector.prefix}+`}`;
  return rule(notLocal, why, set("KUBE-CLUSTER-IP", "dst,dst"), target);
}

/** As iptables-save prints it: a single quote with a backslash. */
function comment(text: string): string {
  return `-m comment --comment "${text.replaceAll("'", "\\'")}"`;
}
