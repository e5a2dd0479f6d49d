// What is there before any Service: the jumps from the built-in chains, and the chains whose rules never change
// (pkg/proxy/iptables/proxier.go iptablesJumpChains and the fixed rules of syncProxyRules; kube-proxy 1.36).

import type { IpFamily } from "../../base/ip.ts";
import { comment, rule } from "./rule-text.ts";

/** How a node tells traffic of its pods from other traffic; without it nothing is masqueraded on the way to a ClusterIP. */
export type LocalDetector =
  | { readonly kind: "cidr"; readonly cidr: string }
  | { readonly kind: "bridge"; readonly name: string }
  | { readonly kind: "prefix"; readonly prefix: string };

export interface IptablesOptions {
  readonly family: IpFamily;
  readonly localDetector?: LocalDetector;
  /** Masquerade all traffic to ClusterIPs. */
  readonly masqueradeAll?: boolean;
  /** The bit of the packet mark that asks for SNAT; 14 as in kube-proxy. */
  readonly masqueradeBit?: number;
  /** Whether NodePorts answer on 127.0.0.0/8 (IPv4 only; needs route_localnet). */
  readonly localhostNodePorts?: boolean;
  /** The node's own addresses that take NodePort traffic; all local addresses unless given. */
  readonly nodePortAddresses?: readonly string[];
  /** The node's address: lets the node itself through loadBalancerSourceRanges that contain it. */
  readonly nodeAddress?: string;
  /** Packets in conntrack state INVALID are dropped unless nf_conntrack_tcp_be_liberal is set. */
  readonly dropInvalid?: boolean;
  /** Whether the kernel has xt_nfacct: adds kube-proxy's two counters. */
  readonly nfacct?: boolean;
}

export const canaryChain = "KUBE-PROXY-CANARY";

export const nodePortsComment = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";

/** `0x4000/0x4000`. */
export function masqueradeMark(options: IptablesOptions): string {
  const mark = `0x${(2 ** (options.masqueradeBit ?? 14)).toString(16)}`;
  return `${mark}/${mark}`;
}

/** The rules at the top of built-in chains, in their final order. Keys are `table/chain`. */
export function jumps(): ReadonlyMap<string, readonly string[]> {
  const whenNew = "-m conntrack --ctstate NEW";
  const firewall = rule(whenNew, comment("kubernetes load balancer firewall"), "-j KUBE-PROXY-FIREWALL");
  const external = rule(whenNew, comment("kubernetes externally-visible service portals"), "-j KUBE-EXTERNAL-SERVICES");
  const portals = comment("kubernetes service portals");
  return new Map([
    [
      "filter/INPUT",
      [
        "-j KUBE-FIREWALL",
        firewall,
        rule(comment("kubernetes health check service ports"), "-j KUBE-NODEPORTS"),
        external,
      ],
    ],
    [
      "filter/FORWARD",
      [
        firewall,
        rule(comment("kubernetes forwarding rules"), "-j KUBE-FORWARD"),
        rule(whenNew, portals, "-j KUBE-SERVICES"),
        external,
      ],
    ],
    ["filter/OUTPUT", ["-j KUBE-FIREWALL", firewall, rule(whenNew, portals, "-j KUBE-SERVICES")]],
    ["nat/PREROUTING", [rule(portals, "-j KUBE-SERVICES")]],
    ["nat/OUTPUT", [rule(portals, "-j KUBE-SERVICES")]],
    ["nat/POSTROUTING", [rule(comment("kubernetes postrouting rules"), "-j KUBE-POSTROUTING")]],
  ]);
}

/** Chains with rules of their own that no Service changes. */
export function fixedChains(options: IptablesOptions): ReadonlyMap<string, readonly string[]> {
  const mark = masqueradeMark(options);
  const bare = mark.slice(0, mark.indexOf("/"));
  const invalid = rule(
    "-m conntrack --ctstate INVALID",
    options.nfacct && "-m nfacct --nfacct-name ct_state_invalid_dropped_pkts",
    "-j DROP",
  );
  return new Map<string, readonly string[]>([
    [`mangle/${canaryChain}`, []],
    [`nat/${canaryChain}`, []],
    [`filter/${canaryChain}`, []],
    [
      "filter/KUBE-FORWARD",
      [
        ...((options.dropInvalid ?? true) ? [invalid] : []),
        rule(comment("kubernetes forwarding rules"), `-m mark --mark ${mark}`, "-j ACCEPT"),
        rule(
          comment("kubernetes forwarding conntrack rule"),
          "-m conntrack --ctstate RELATED,ESTABLISHED",
          "-j ACCEPT",
        ),
      ],
    ],
    [
      "filter/KUBE-FIREWALL",
      options.family === 4 && options.localhostNodePorts
        ? [
            rule(
              "! -s 127.0.0.0/8 -d 127.0.0.0/8",
              comment("block incoming localnet connections"),
              "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT",
              "-j DROP",
            ),
          ]
        : [],
    ],
    ["nat/KUBE-MARK-MASQ", [`-j MARK --set-xmark ${mark}`]],
    [
      "nat/KUBE-POSTROUTING",
      [
        `-m mark ! --mark ${mark} -j RETURN`,
        `-j MARK --set-xmark ${bare}/0x0`,
        rule(comment("kubernetes service traffic requiring SNAT"), "-j MASQUERADE --random-fully"),
      ],
    ],
  ]);
}

/** The chains that all Services write into: each row adds its lines; `tail` follows them all. */
export function sharedChains(options: IptablesOptions): ReadonlyMap<string, { readonly tail: readonly string[] }> {
  return new Map([
    ["filter/KUBE-SERVICES", { tail: [] }],
    ["filter/KUBE-EXTERNAL-SERVICES", { tail: [] }],
    ["filter/KUBE-NODEPORTS", { tail: [] }],
    ["filter/KUBE-PROXY-FIREWALL", { tail: [] }],
    ["nat/KUBE-SERVICES", { tail: nodePortRules(options) }],
    ["nat/KUBE-NODEPORTS", { tail: [] }],
  ]);
}

function nodePortRules(options: IptablesOptions): readonly string[] {
  const jump = (condition: string, match?: string) =>
    rule(condition, comment(nodePortsComment), match, "-j KUBE-NODEPORTS");
  if (options.nodePortAddresses) {
    const prefix = options.family === 4 ? 32 : 128;
    return options.nodePortAddresses.map((address) => jump(`-d ${address}/${prefix}`));
  }
  const except = options.family === 6 ? "! -d ::1/128" : options.localhostNodePorts ? "" : "! -d 127.0.0.0/8";
  return [jump(except, "-m addrtype --dst-type LOCAL")];
}
