import { describe, expect, test } from "bun:test";
import {
  checkFlags,
  conntrackSettings,
  flagsIn,
  ipvsOptions,
  localDetector,
  localhostNodePorts,
  nodePortAddresses,
  type ProxyFlagTexts,
  proxyFlagNames,
} from "./proxy-flags.ts";
import type { ProxyMode } from "./stack.ts";

const own = ["10.98.0.1", "10.98.1.1", "fd98::1"];

describe("kube-proxy's flags", () => {
  test("are read from a command's words, switches as true", () => {
    const words = {
      text: (name: string) => (name === "cluster-cidr" ? "10.0.0.0/8" : undefined),
      flag: (name: string) => name === "masquerade-all",
    };
    expect(flagsIn(words, proxyFlagNames)).toEqual({ "masquerade-all": "true", "cluster-cidr": "10.0.0.0/8" });
  });

  test.each([
    [{ "ipvs-scheduler": "wrr" }, "iptables", "--ipvs-scheduler wrr: the proxy mode is iptables"],
    [{ "ipvs-scheduler": "fastest" }, "ipvs", "--ipvs-scheduler fastest: there are rr, wrr, lc"],
    [{ "iptables-localhost-nodeports": "true" }, "nftables", "--iptables-localhost-nodeports true: the proxy mode is"],
    [{ "iptables-localhost-nodeports": "no" }, "iptables", "no: true or false is wanted"],
    [{ "masquerade-all": "true" }, "userspace", "--masquerade-all: without kernel rules"],
    [{ "iptables-masquerade-bit": "32" }, "iptables", "--iptables-masquerade-bit 32: a number from 0 to 31"],
    [{ "nodeport-addresses": "10.98.0.1" }, "iptables", '"10.98.0.1" is not an address range in CIDR notation'],
    [{ "nodeport-addresses": "192.0.2.0/24" }, "iptables", "192.0.2.0/24: no node has an address there"],
    [{ "detect-local-mode": "Guess" }, "iptables", "Guess: there are ClusterCIDR, NodeCIDR"],
    [{ "detect-local-mode": "BridgeInterface" }, "iptables", "BridgeInterface needs --pod-bridge-interface"],
    [{ "pod-interface-name-prefix": "pod" }, "iptables", "only --detect-local-mode InterfaceNamePrefix uses it"],
    [{ "detect-local-mode": "NodeCIDR", "cluster-cidr": "10.0.0.0/8" }, "iptables", "NodeCIDR does not use it"],
    [{ "conntrack-udp-timeout": "soon" }, "iptables", "--conntrack-udp-timeout soon: not a duration"],
    [{ "ipvs-tcp-timeout": "1500ms" }, "ipvs", "--ipvs-tcp-timeout 1500ms: whole seconds are wanted"],
    [
      { "pod-bridge-interface": "a/b", "detect-local-mode": "BridgeInterface" },
      "iptables",
      "no link can have that name",
    ],
  ] as [ProxyFlagTexts, ProxyMode, string][])("refuse %j in mode %s", (flags, mode, message) => {
    expect(() => checkFlags(flags, mode, ["10.98.0.0/24"])).toThrow(message);
  });

  test("of node ports: all addresses in iptables mode, else the primary one, unless ranges are given", () => {
    const of = (mode: ProxyMode, text?: string, family: 4 | 6 = 4) =>
      nodePortAddresses(text === undefined ? {} : { "nodeport-addresses": text }, mode, family, own);
    expect(of("iptables")).toBeUndefined();
    expect(of("nftables")).toEqual(["10.98.0.1"]);
    expect(of("ipvs")).toEqual(["10.98.0.1"]);
    expect(of("iptables", "primary", 6)).toEqual(["fd98::1"]);
    expect(of("iptables", "10.98.1.0/24,fd98::/64")).toEqual(["10.98.1.1"]);
    expect(of("iptables", "10.98.1.0/24,127.0.0.0/8")).toEqual(["10.98.1.1", "127.0.0.1"]);
    expect(of("nftables", "10.98.1.0/24,127.0.0.0/8")).toEqual(["10.98.1.1"]);
    expect(of("nftables", "0.0.0.0/0")).toBeUndefined();
    expect(of("ipvs", "0.0.0.0/0")).toEqual(["10.98.0.1", "10.98.1.1"]);
    expect(of("nftables", "10.98.1.0/24", 6)).toBeUndefined();
  });

  test("of localhost: node ports answer there unless forbidden, or other addresses were chosen", () => {
    expect(localhostNodePorts({}, 4)).toBe(true);
    expect(localhostNodePorts({}, 6)).toBe(false);
    expect(localhostNodePorts({ "iptables-localhost-nodeports": "false" }, 4)).toBe(false);
    expect(localhostNodePorts({ "nodeport-addresses": "primary" }, 4)).toBe(false);
    expect(localhostNodePorts({ "nodeport-addresses": "127.0.0.0/8" }, 4)).toBe(true);
    const both: ProxyFlagTexts = {
      "nodeport-addresses": "10.98.0.0/24,127.0.0.0/8",
      "iptables-localhost-nodeports": "false",
    };
    expect(nodePortAddresses(both, "iptables", 4, own)).toEqual(["10.98.0.1"]);
  });

  test("of pods' traffic", () => {
    const ranges = { cluster: ["10.244.0.0/16", "fd44::/48"], node: ["10.244.3.0/24", "fd44:0:0:3::/64"] };
    const of = (flags: ProxyFlagTexts, family: 4 | 6 = 4) => localDetector(flags, family, ranges);
    expect(of({})).toEqual({ kind: "cidr", cidr: "10.244.0.0/16" });
    expect(of({ "cluster-cidr": "10.0.0.0/8" })).toEqual({ kind: "cidr", cidr: "10.0.0.0/8" });
    expect(of({ "cluster-cidr": "10.0.0.0/8" }, 6)).toBeUndefined();
    expect(of({ "detect-local-mode": "NodeCIDR" }, 6)).toEqual({ kind: "cidr", cidr: "fd44:0:0:3::/64" });
    expect(of({ "detect-local-mode": "InterfaceNamePrefix", "pod-interface-name-prefix": "pod" })).toEqual({
      kind: "prefix",
      prefix: "pod",
    });
  });

  test("of connection tracking have kube-proxy's defaults, and 0 leaves the kernel's own", () => {
    const [established, closing] = ["tcp_timeout_established", "tcp_timeout_close_wait"].map(
      (name) => `net/netfilter/nf_conntrack_${name}`,
    ) as [string, string];
    expect(conntrackSettings({})).toEqual({ [established]: "86400", [closing]: "3600" });
    expect(
      conntrackSettings({
        "conntrack-tcp-timeout-established": "0s",
        "conntrack-tcp-timeout-close-wait": "1m30s",
        "conntrack-udp-timeout": "20s",
      }),
    ).toEqual({ [closing]: "90", "net/netfilter/nf_conntrack_udp_timeout": "20" });
  });

  test("of ipvs", () => {
    expect(ipvsOptions({})).toEqual({});
    const flags = { "ipvs-scheduler": "mh", "ipvs-udp-timeout": "5m", "ipvs-exclude-cidrs": "10.1.0.0/16" } as const;
    expect(ipvsOptions(flags)).toEqual({
      scheduler: "mh",
      timeouts: { tcp: 0, tcpFin: 0, udp: 300 },
      excludeCidrs: ["10.1.0.0/16"],
    });
  });
});
