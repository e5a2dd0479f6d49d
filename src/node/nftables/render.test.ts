import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ServicePort } from "../../services/service-table.ts";
import type { Rules } from "../service-rules.ts";
import type { NftablesOptions } from "./fixed.ts";
import { commentOf, endpointName, portName } from "./names.ts";
import { NftablesRenderer, render } from "./renderer.ts";
import { port, table } from "./testing/rows.ts";
import { parseSample } from "./testing/sample.ts";

const options: NftablesOptions = {
  family: 4,
  localDetector: { kind: "cidr", cidr: "10.0.0.0/8" },
  nodePortAddresses: ["192.168.0.2"],
  nodeAddress: "192.168.0.2",
  serviceCidrs: ["172.30.0.0/16"],
};
const rules = (rows: readonly ServicePort[], more: Partial<NftablesOptions> = {}) =>
  render(table(rows), { ...options, ...more });
const plain = (all: Rules) => Object.fromEntries([...all].sort(([a], [b]) => (a < b ? -1 : 1)));

/** A row of kube-proxy's TestOverallNFTablesRules: `nsN/svcN`, port `p80`, endpoints by address. */
function svc(n: number, endpoints: readonly string[], more: Partial<ServicePort> = {}): ServicePort {
  return port(n, [], {
    key: `ns${n}/svc${n}:p80/TCP/4`,
    name: `ns${n}/svc${n}:p80`,
    namespace: `ns${n}`,
    service: `svc${n}`,
    clusterIP: `172.30.0.${40 + n}`,
    clusterEndpoints: endpoints.map((address) => ({ address, port: 80, local: address === "10.180.0.5" })),
    localEndpoints: [],
    hasEndpoints: endpoints.length > 0,
    ...more,
  });
}

const overall: readonly ServicePort[] = [
  svc(1, ["10.180.0.1"]),
  svc(2, ["10.180.0.2"], {
    externalPolicyLocal: true,
    externalIPs: ["192.168.99.22"],
    loadBalancerIPs: ["1.2.3.4"],
    nodePort: 3001,
  }),
  svc(3, ["10.180.0.3"], { nodePort: 3003 }),
  svc(4, ["10.180.0.4", "10.180.0.5"], { externalIPs: ["192.168.99.33"] }),
  svc(5, ["10.180.0.3"], {
    affinitySeconds: 10_800,
    sourceRanges: ["203.0.113.0/25"],
    loadBalancerIPs: ["5.6.7.8"],
    nodePort: 3002,
  }),
  svc(6, []),
];

describe("names", () => {
  test("are kube-proxy's", () => {
    expect(portName(svc(1, []))).toBe("ULMVA6XW-ns1/svc1/tcp/p80");
    expect(endpointName(svc(5, []), { address: "10.180.0.3", port: 80 })).toBe(
      "GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80",
    );
  });

  test("have dots for the colons of IPv6, and nothing for an unnamed port", () => {
    expect(endpointName(svc(1, []), { address: "fd00::5", port: 80 })).toEndWith("-ns1/svc1/tcp/p80__fd00..5/80");
    expect(portName({ ...svc(1, []), name: "ns1/svc1" })).toEndWith("-ns1/svc1/tcp/");
  });

  test("of 255 characters with their prefix are cut, and still differ; comments are cut at 128", () => {
    const long = { ...svc(1, []), namespace: "n".repeat(63), service: "s".repeat(63) };
    const row = { ...long, name: `${long.namespace}/${long.service}:${"p".repeat(63)}` };
    const name = (last: number) =>
      endpointName(row, { address: `fd00:1111:2222:3333:4444:5555:6666:${last}`, port: 80 });
    expect(name(7777)).toHaveLength(240);
    expect(name(7777)).toEndWith("...");
    expect(name(7777)).not.toBe(name(7778));
    expect(commentOf(row.name)).toHaveLength(128);
    expect(commentOf("ns/svc")).toBe("ns/svc");
  });
});

const sample = join(import.meta.dir, "../../../../shared/research/samples/kube-proxy-nftables-overall.txt");

describe("the whole table", () => {
  test.skipIf(!existsSync(sample))("is what kube-proxy 1.36.2 wrote for the same Services", () => {
    expect(plain(rules(overall))).toEqual(plain(parseSample(readFileSync(sample, "utf8"), "ip")));
  });

  test.skipIf(!existsSync(sample))("of the other family is there, too, with nothing in it", () => {
    expect(plain(render(table(overall), { family: 6 }))).toEqual(
      plain(parseSample(readFileSync(sample, "utf8"), "ip6")),
    );
  });
});

describe("a ClusterIP", () => {
  const chain = (all: Rules, prefix: string) =>
    [...all].find(([name]) => name.startsWith(`chain ${prefix}-`) && name.includes("/"))?.[1];

  test("gives each endpoint one number of n", () => {
    expect(chain(rules([port(1, [1, 2, 3])]), "service")).toEqual([
      "meta l4proto tcp dnat ip addr . port to numgen random mod 3 map { 0 : 10.244.1.1 . 8080, 1 : 10.244.1.2 . 8080, 2 : 10.244.1.3 . 8080 }",
    ]);
  });

  test("without endpoints refuses, and under policy Local without a local one drops", () => {
    const refused = rules([port(1, [])]);
    expect(refused.get("element no-endpoint-services 10.96.0.1 . tcp . 80")).toEqual([
      '10.96.0.1 . tcp . 80 comment "ns/s1:http" : goto reject-chain',
    ]);
    expect(refused.has("element service-ips 10.96.0.1 . tcp . 80")).toBe(false);
    expect(refused.has("element cluster-ips 10.96.0.1")).toBe(true);
    const dropped = rules([port(1, [1], { internalPolicyLocal: true })]);
    expect(dropped.get("element no-endpoint-services 10.96.0.1 . tcp . 80")).toEqual([
      '10.96.0.1 . tcp . 80 comment "ns/s1:http" : drop',
    ]);
  });

  test("under policy Local goes to this node's endpoints only", () => {
    const all = rules([port(1, [1, 2], { internalPolicyLocal: true, clusterEndpoints: [] })]);
    expect(chain(all, "service")).toBeUndefined();
    expect(chain(all, "local")).toEqual([
      "meta l4proto tcp dnat ip addr . port to numgen random mod 1 map { 0 : 10.244.1.2 . 8080 }",
    ]);
    expect(all.get("element service-ips 10.96.0.1 . tcp . 80")?.[0]).toContain(": goto local-");
  });

  test("is masqueraded for others than pods, for all, or for none", () => {
    const first = (more: Partial<NftablesOptions>) => rules([], more).get("chain services")?.[0];
    expect(first({})).toContain("ip saddr != 10.0.0.0/8 meta mark set");
    expect(first({ localDetector: { kind: "prefix", prefix: "fl-" } })).toContain('iifname != "fl-*" meta mark set');
    expect(first({ localDetector: { kind: "bridge", name: "cni0" } })).toContain('iifname != "cni0" meta mark set');
    expect(first({ masqueradeAll: true })).toBe(
      'ip daddr @cluster-ips meta mark set meta mark | 0x00004000 comment "masquerade all clusterIP traffic"',
    );
    expect(first({ localDetector: undefined })).toStartWith("ip daddr . meta l4proto");
    expect(first({ masqueradeBit: 15 })).toContain("0x00008000");
  });

  test("that two ports share stays as long as one of them is there", () => {
    const http = port(1, [1]);
    const https = { ...http, key: "other", name: "ns/s1:https", port: 443 };
    expect([...rules([http, https]).keys()].filter((name) => name.startsWith("element cluster-ips"))).toHaveLength(1);
    expect(rules([https]).has("element cluster-ips 10.96.0.1")).toBe(true);
  });

  test("with affinity has a set and a chain for each endpoint, asked before the dice", () => {
    const all = rules([port(1, [1, 2], { affinitySeconds: 60, protocol: "UDP" })]);
    const lines = chain(all, "service")!;
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^ip saddr @(affinity-\S+10\.244\.1\.1\/8080) goto endpoint-\S+10\.244\.1\.1\/8080$/);
    expect(lines[2]).toMatch(/^numgen random mod 2 vmap \{ 0 : goto endpoint-\S+, 1 : goto endpoint-\S+ \}$/);
    const set = /@(\S+)/.exec(lines[0]!)![1]!;
    expect(all.get(`set ${set}`)).toEqual(["type ipv4_addr", "timeout 60s"]);
    expect(chain(all, "endpoint")).toEqual([`update @${set} { ip saddr }`, "meta l4proto udp dnat to 10.244.1.1:8080"]);
  });

  test("remembers of local endpoints only that they may reach themselves", () => {
    const hairpins = [...rules([port(1, [1, 2])]).keys()].filter((name) => name.includes("hairpin-connections 1"));
    expect(hairpins).toEqual(["element hairpin-connections 10.244.1.2 . 10.244.1.2 . tcp . 8080"]);
  });

  test("of IPv6 is left to the other family's table, in the spelling that nft prints", () => {
    const six = port(1, [], {
      family: 6,
      clusterIP: "FD00:96:0::9",
      clusterEndpoints: [{ address: "fd00::0:1", port: 80, local: true }],
      hasEndpoints: true,
    });
    expect(rules([six]).has("element cluster-ips fd00:96::9")).toBe(false);
    const all = rules([six], { family: 6 });
    expect(all.has("element service-ips fd00:96::9 . tcp . 80")).toBe(true);
    expect(chain(all, "service")).toEqual([
      "meta l4proto tcp dnat ip6 addr . port to numgen random mod 1 map { 0 : fd00::1 . 80 }",
    ]);
    const stuck = rules([{ ...six, affinitySeconds: 5 }], { family: 6 });
    expect(chain(stuck, "endpoint")?.[1]).toBe("meta l4proto tcp dnat to [fd00::1]:80");
  });
});

describe("external traffic", () => {
  const balancer = (endpoints: readonly number[], more: Partial<ServicePort> = {}) =>
    port(1, endpoints, { loadBalancerIPs: ["10.97.0.1"], nodePort: 30_090, ...more });
  const external = (all: Rules) => [...all].find(([name]) => name.startsWith("chain external-"))?.[1] ?? [];
  const firewall = (all: Rules) =>
    [...all].find(([name]) => name.startsWith("chain firewall-") && name.includes("/"))?.[1];

  test("under policy Cluster is masqueraded", () => {
    expect(external(rules([balancer([1])]))[0]).toBe('meta mark set meta mark | 0x00004000 comment "masquerade"');
  });

  test("under policy Local keeps its source, and drops where nothing is local", () => {
    const local = rules([balancer([1, 2], { externalPolicyLocal: true })]);
    expect(external(local).at(-1)).toStartWith("goto local-");
    expect(local.has("element no-endpoint-nodeports tcp . 30090")).toBe(false);
    const elsewhere = rules([balancer([1], { externalPolicyLocal: true })]);
    expect(external(elsewhere)).toHaveLength(3);
    expect(elsewhere.get("element no-endpoint-nodeports tcp . 30090")?.[0]).toEndWith(" : drop");
    expect(elsewhere.get("element no-endpoint-services 10.97.0.1 . tcp . 80")?.[0]).toEndWith(" : drop");
    expect(elsewhere.get("element service-ips 10.97.0.1 . tcp . 80")?.[0]).toContain(": goto external-");
  });

  test("without a detector has no short cut for pods", () => {
    const all = rules([balancer([2], { externalPolicyLocal: true })], { localDetector: undefined });
    expect(external(all)).toHaveLength(3);
  });

  test("from source ranges is admitted, also the node's own where a range contains it", () => {
    const ranges = { sourceRanges: ["192.0.2.0/24", "203.0.113.0/25"] };
    expect(firewall(rules([balancer([1], ranges)]))).toEqual(["ip saddr != { 192.0.2.0/24, 203.0.113.0/25 } drop"]);
    expect(firewall(rules([balancer([1], ranges)], { nodeAddress: "192.0.2.7" }))).toEqual([
      "ip saddr != { 10.97.0.1, 192.0.2.0/24, 203.0.113.0/25 } drop",
    ]);
    expect(firewall(rules([balancer([1], { sourceRanges: ["0.0.0.0/0"] })]))).toEqual([]);
    expect(firewall(rules([balancer([1], { sourceRanges: ["nonsense"] })]))).toEqual(["drop"]);
    expect(rules([balancer([1], ranges)]).get("element firewall-ips 10.97.0.1 . tcp . 80")?.[0]).toContain(
      "goto firewall-",
    );
  });

  test("to a node port without endpoints is refused", () => {
    const all = rules([balancer([])]);
    expect(all.get("element no-endpoint-nodeports tcp . 30090")?.[0]).toEndWith(" : goto reject-chain");
    expect(external(all)).toEqual([]);
  });

  test("to node ports is taken on the node's own addresses, or on all local ones but loopback", () => {
    const last = (more: Partial<NftablesOptions>) => rules([], more).get("chain services")?.at(-1);
    expect(last({})).toStartWith("ip daddr @nodeport-ips meta l4proto . th dport");
    expect(last({ nodePortAddresses: undefined })).toStartWith("fib daddr type local ip daddr != 127.0.0.0/8 meta");
    expect(rules([], { nodePortAddresses: undefined }).has("set nodeport-ips")).toBe(false);
  });

  test("to an address and port that two Services claim goes to one, and to the other when that is gone", () => {
    const [a, b] = [port(1, [1], { externalIPs: ["198.51.100.1"] }), port(2, [1], { externalIPs: ["198.51.100.1"] })];
    const owner = (rows: readonly ServicePort[]) =>
      /ns\/s\d/.exec(rules(rows).get("element service-ips 198.51.100.1 . tcp . 80")![0]!)![0];
    expect(owner([a, b])).toBe("ns/s1");
    expect(owner([b, a])).toBe("ns/s1");
    expect(owner([b])).toBe("ns/s2");
  });
});

test("other Service ranges change the chain that drops what goes to none of them, and nothing else", () => {
  const renderer = new NftablesRenderer(options);
  const drops = () => renderer.rules.get("chain cluster-ips-check")!.slice(1);
  const before = new Map(renderer.rules);
  expect([...renderer.serviceCidrs(["172.30.0.0/16", "fd00:96::/112"])]).toEqual([]);
  expect([...renderer.serviceCidrs(["172.30.0.0/16", "10.60.0.0/24"])]).toEqual(["chain cluster-ips-check"]);
  expect(drops()).toEqual([
    'ip daddr { 10.60.0.0/24, 172.30.0.0/16 } drop comment "Drop traffic to unallocated ClusterIPs"',
  ]);
  expect([...renderer.serviceCidrs(["172.30.0.0/16"])]).toEqual(["chain cluster-ips-check"]);
  expect(new Map(renderer.rules)).toEqual(before);
});
