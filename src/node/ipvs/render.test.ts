import { describe, expect, test } from "bun:test";
import type { ServicePort } from "../../services/service-table.ts";
import { port, table } from "../testing/rows.ts";
import type { IpvsOptions } from "./fixed-chains.ts";
import { setIds, setName } from "./names.ts";
import { render } from "./renderer.ts";
import { printRules } from "./save.ts";

const options: IpvsOptions = {
  family: 4,
  localDetector: { kind: "cidr", cidr: "10.244.0.0/16" },
  nodeAddresses: ["192.0.2.1"],
  nodeAddress: "192.0.2.1",
};

const rules = (rows: readonly ServicePort[], more: Partial<IpvsOptions> = {}) =>
  render(table(rows), { ...options, ...more });

/** Virtual servers and entries: what changes with Services. */
function served(rows: readonly ServicePort[], more: Partial<IpvsOptions> = {}): readonly string[] {
  return printRules(rules(rows, more))
    .split("\n")
    .filter((line) => /^(-[Aa]|add|address) /.test(line));
}

const servers = (rows: readonly ServicePort[], more: Partial<IpvsOptions> = {}) =>
  served(rows, more).filter((line) => line.startsWith("-"));
const entries = (rows: readonly ServicePort[], more: Partial<IpvsOptions> = {}) =>
  served(rows, more)
    .filter((line) => line.startsWith("add "))
    .map((line) => line.slice(4));

describe("a ClusterIP", () => {
  test("is a virtual server, an address of the device, and entries of sets", () => {
    expect(served([port(1, [1, 2])])).toEqual([
      "-A -t 10.96.0.1:80 -s rr",
      "-a -t 10.96.0.1:80 -r 10.244.1.1:8080 -m -w 1",
      "-a -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 1",
      "add KUBE-CLUSTER-IP 10.96.0.1,tcp:80",
      "add KUBE-IPVS-IPS 10.96.0.1",
      // Endpoint 2 is on this node: it may reach itself.
      "add KUBE-LOOP-BACK 10.244.1.2,tcp:8080,10.244.1.2",
      "address add 10.96.0.1/32 dev kube-ipvs0",
    ]);
  });

  test("without endpoints has a virtual server that refuses", () => {
    expect(servers([port(1, [])])).toEqual(["-A -t 10.96.0.1:80 -s rr"]);
  });

  test("of two ports has one address", () => {
    const second = port(1, [1], { key: "ns/s1:b/TCP/4", name: "ns/s1:b", port: 443 });
    const lines = served([port(1, [1]), second]);
    expect(lines.filter((line) => line.startsWith("address"))).toHaveLength(1);
    expect(lines.filter((line) => line.startsWith("-A"))).toEqual([
      "-A -t 10.96.0.1:443 -s rr",
      "-A -t 10.96.0.1:80 -s rr",
    ]);
  });

  test("in UDP and SCTP is named as ipvsadm names it", () => {
    expect(servers([port(1, [1], { protocol: "UDP" }), port(2, [1], { protocol: "SCTP" })])).toEqual([
      "-A --sctp-service 10.96.0.2:80 -s rr",
      "-a --sctp-service 10.96.0.2:80 -r 10.244.2.1:8080 -m -w 1",
      "-A -u 10.96.0.1:80 -s rr",
      "-a -u 10.96.0.1:80 -r 10.244.1.1:8080 -m -w 1",
    ]);
  });

  test("with affinity is persistent for its seconds", () => {
    expect(servers([port(1, [], { affinitySeconds: 10_800 })])).toEqual(["-A -t 10.96.0.1:80 -s rr -p 10800"]);
  });

  test("has the scheduler that was asked for; mh counts ports as well", () => {
    expect(servers([port(1, [])], { scheduler: "wlc" })).toEqual(["-A -t 10.96.0.1:80 -s wlc"]);
    expect(servers([port(1, [], { affinitySeconds: 5 })], { scheduler: "mh" })).toEqual([
      "-A -t 10.96.0.1:80 -s mh -p 5 -b mh-port",
    ]);
  });

  test("with internal policy Local uses local endpoints, or the others when there are none", () => {
    const more = { internalPolicyLocal: true, nodePort: 30_001 };
    expect(servers([port(1, [1, 2], more)])[1]).toBe("-a -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 1");
    expect(servers([port(1, [1], more)])[1]).toBe("-a -t 10.96.0.1:80 -r 10.244.1.1:8080 -m -w 1");
  });
});

describe("external addresses", () => {
  test("of policy Cluster are masqueraded, of policy Local are not, and both are on the device", () => {
    expect(entries([port(1, [], { externalIPs: ["203.0.113.1"] })])).toContain("KUBE-EXTERNAL-IP 203.0.113.1,tcp:80");
    const local = entries([port(1, [], { externalIPs: ["203.0.113.1"], externalPolicyLocal: true })]);
    expect(local).toContain("KUBE-EXTERNAL-IP-LOCAL 203.0.113.1,tcp:80");
    expect(local).toContain("KUBE-IPVS-IPS 203.0.113.1");
    expect(local).not.toContain("KUBE-EXTERNAL-IP 203.0.113.1,tcp:80");
  });

  test("that the node has itself are not put on the device", () => {
    const lines = served([port(1, [1], { externalIPs: ["192.0.2.1"] })]);
    expect(lines).toContain("-A -t 192.0.2.1:80 -s rr");
    expect(lines).not.toContain("address add 192.0.2.1/32 dev kube-ipvs0");
    expect(lines).not.toContain("add KUBE-IPVS-IPS 192.0.2.1");
  });

  test("that two Services claim go to the first by name, and the other keeps its own", () => {
    const claim = { externalIPs: ["203.0.113.1"] };
    const lines = servers([port(2, [2], claim), port(1, [1], claim)]);
    expect(lines.filter((line) => line.includes("203.0.113.1"))).toEqual([
      "-A -t 203.0.113.1:80 -s rr",
      "-a -t 203.0.113.1:80 -r 10.244.1.1:8080 -m -w 1",
    ]);
    expect(lines).toContain("-a -t 10.96.0.2:80 -r 10.244.2.2:8080 -m -w 1");
  });
});

describe("a load balancer", () => {
  const balanced = { loadBalancerIPs: ["10.97.0.1"] };
  const outFilter = (rows: readonly ServicePort[]) => rules(rows).get("filter/KUBE-IPVS-OUT-FILTER");

  test("is in the sets of its policy", () => {
    const entry = "10.97.0.1,tcp:80";
    expect(entries([port(1, [], balanced)]).filter((line) => line.endsWith(entry))).toEqual([
      `KUBE-LOAD-BALANCER ${entry}`,
    ]);
    const local = entries([port(1, [], { ...balanced, externalPolicyLocal: true, healthCheckNodePort: 32_000 })]);
    expect(local).toContain(`KUBE-LOAD-BALANCER-LOCAL ${entry}`);
    expect(local).toContain("KUBE-HEALTH-CHECK-NODE-PORT 32000");
  });

  test("with source ranges admits them, and the node only when one contains it", () => {
    const without = port(1, [], { ...balanced, sourceRanges: ["203.0.113.0/24"] });
    expect(entries([without])).toEqual(
      expect.arrayContaining([
        "KUBE-LOAD-BALANCER-FW 10.97.0.1,tcp:80",
        "KUBE-LOAD-BALANCER-SOURCE-CIDR 10.97.0.1,tcp:80,203.0.113.0/24",
      ]),
    );
    expect(outFilter([without])).toEqual(["-s 10.97.0.1/32 -m ipvs --vproto 6 --vaddr 10.97.0.1 --vport 80 -j DROP"]);
    const containing = port(1, [], { ...balanced, sourceRanges: ["192.0.2.0/24"] });
    expect(entries([containing])).toContain("KUBE-LOAD-BALANCER-SOURCE-IP 10.97.0.1,tcp:80,10.97.0.1");
    expect(outFilter([containing])).toEqual([]);
  });

  test("writes ranges as sets keep them: single addresses bare, everything in two halves", () => {
    const found = entries([port(1, [], { ...balanced, sourceRanges: ["203.0.113.7/32", "0.0.0.0/0"] })]);
    expect(found.filter((line) => line.includes("SOURCE-CIDR")).map((line) => line.split(",")[2])).toEqual([
      "0.0.0.0/1",
      "128.0.0.0/1",
      "203.0.113.7",
    ]);
  });
});

describe("a node port", () => {
  const two = { nodeAddresses: ["192.0.2.1", "198.51.100.1"] };

  test("is a virtual server on each address of the node, and one entry of a bitmap", () => {
    const rows = [port(1, [1], { nodePort: 30_080 })];
    expect(servers(rows, two).filter((line) => line.includes(":30080"))).toEqual([
      "-A -t 192.0.2.1:30080 -s rr",
      "-a -t 192.0.2.1:30080 -r 10.244.1.1:8080 -m -w 1",
      "-A -t 198.51.100.1:30080 -s rr",
      "-a -t 198.51.100.1:30080 -r 10.244.1.1:8080 -m -w 1",
    ]);
    expect(entries(rows, two)).toContain("KUBE-NODE-PORT-TCP 30080");
  });

  test("of each protocol and policy has its sets; SCTP has one entry an address", () => {
    const of = (more: Partial<ServicePort>) =>
      entries([port(1, [], { nodePort: 30_080, ...more })], two).filter((line) => line.includes("NODE-PORT"));
    expect(of({ externalPolicyLocal: true })).toEqual(["KUBE-NODE-PORT-LOCAL-TCP 30080", "KUBE-NODE-PORT-TCP 30080"]);
    expect(of({ protocol: "UDP" })).toEqual(["KUBE-NODE-PORT-UDP 30080"]);
    expect(of({ protocol: "UDP", externalPolicyLocal: true })).toEqual([
      "KUBE-NODE-PORT-LOCAL-UDP 30080",
      "KUBE-NODE-PORT-UDP 30080",
    ]);
    expect(of({ protocol: "SCTP" })).toEqual([
      "KUBE-NODE-PORT-SCTP-HASH 192.0.2.1,sctp:30080",
      "KUBE-NODE-PORT-SCTP-HASH 198.51.100.1,sctp:30080",
    ]);
  });

  test("needs an address of the node", () => {
    expect(servers([port(1, [], { nodePort: 30_080 })], { nodeAddresses: [] })).toHaveLength(1);
  });
});

describe("the chains", () => {
  const chain = (name: string, rows: readonly ServicePort[], more: Partial<IpvsOptions> = {}) =>
    rules(rows, more).get(name) ?? [];
  const short = (lines: readonly string[]) => lines.map((line) => line.replace(/-m comment --comment "[^"]*" /, ""));

  test("have rules only for sets with entries", () => {
    expect(chain("nat/KUBE-SERVICES", [])).toEqual([
      "-s 127.0.0.0/8 -j RETURN",
      "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
    ]);
    expect(chain("nat/KUBE-NODE-PORT", [])).toEqual([]);
    expect(chain("filter/KUBE-SOURCE-RANGES-FIREWALL", [])).toEqual(["-j DROP"]);
  });

  test("stay the same in number however many Services there are", () => {
    const count = (rows: readonly ServicePort[]) =>
      [...rules(rows)].filter(([name]) => /^(nat|filter)\//.test(name)).flatMap(([, lines]) => lines).length;
    expect(count(Array.from({ length: 50 }, (_, n) => port(n + 1, [2])))).toBe(count([port(1, [2])]));
  });

  test("stand in upstream's order", () => {
    const all = [
      port(1, [2], {
        externalIPs: ["203.0.113.1"],
        loadBalancerIPs: ["10.97.0.1"],
        sourceRanges: ["192.0.2.0/24"],
        nodePort: 30_080,
      }),
      port(2, [2], {
        externalIPs: ["203.0.113.2"],
        loadBalancerIPs: ["10.97.0.2"],
        nodePort: 30_081,
        externalPolicyLocal: true,
      }),
    ];
    expect(short(chain("nat/KUBE-SERVICES", all))).toEqual([
      "-s 127.0.0.0/8 -j RETURN",
      "-m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER",
      "! -s 10.244.0.0/16 -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ",
      "-m set --match-set KUBE-EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ",
      "-m set --match-set KUBE-EXTERNAL-IP dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT",
      "-m set --match-set KUBE-EXTERNAL-IP dst,dst -m addrtype --dst-type LOCAL -j ACCEPT",
      "-m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT",
      "-m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -m addrtype --dst-type LOCAL -j ACCEPT",
      "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
      "-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT",
      "-m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT",
    ]);
    expect(short(chain("nat/KUBE-NODE-PORT", all))).toEqual([
      "-p tcp -m set --match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN",
      "-p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ",
    ]);
    expect(short(chain("nat/KUBE-LOAD-BALANCER", all))).toEqual([
      "-m set --match-set KUBE-LOAD-BALANCER-LOCAL dst,dst -j RETURN",
      "-j KUBE-MARK-MASQ",
    ]);
    expect(short(chain("nat/KUBE-POSTROUTING", all))).toEqual([
      "-m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE",
      "-m mark ! --mark 0x4000/0x4000 -j RETURN",
      "-j MARK --set-xmark 0x4000/0x0",
      "-j MASQUERADE --random-fully",
    ]);
    expect(short(chain("filter/KUBE-PROXY-FIREWALL", all))).toEqual([
      "-m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL",
    ]);
    expect(short(chain("filter/KUBE-SOURCE-RANGES-FIREWALL", all))).toEqual([
      "-m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN",
      "-m set --match-set KUBE-LOAD-BALANCER-SOURCE-IP dst,dst,src -j RETURN",
      "-j DROP",
    ]);
  });

  test("masquerade by what is known of pods", () => {
    const line = (more: Partial<IpvsOptions>) => short(chain("nat/KUBE-SERVICES", [port(1, [])], more))[1];
    const set = "-m set --match-set KUBE-CLUSTER-IP";
    expect(line({ masqueradeAll: true })).toBe(`${set} dst,dst -j KUBE-MARK-MASQ`);
    expect(line({ localDetector: { kind: "prefix", prefix: "veth" } })).toBe(
      `! -i veth+ ${set} dst,dst -j KUBE-MARK-MASQ`,
    );
    expect(line({ localDetector: { kind: "bridge", name: "cni0" } })).toBe(
      `! -i cni0 ${set} dst,dst -j KUBE-MARK-MASQ`,
    );
    const { localDetector: _, ...unknown } = options;
    const lines = render(table([port(1, [])]), unknown).get("nat/KUBE-SERVICES") ?? [];
    expect(short(lines)[1]).toBe(`${set} src,dst -j KUBE-MARK-MASQ`);
  });

  test("use the mark that was asked for", () => {
    expect(chain("nat/KUBE-MARK-MASQ", [], { masqueradeBit: 10 })).toEqual(["-j MARK --set-xmark 0x400/0x400"]);
  });
});

describe("IPv6", () => {
  const row = port(1, [], {
    key: "ns/s1/TCP/6",
    family: 6,
    clusterIP: "fd00:96::1",
    clusterEndpoints: [{ address: "fd00:244::5", port: 8080, local: true }],
  });
  const six = { family: 6, localDetector: { kind: "cidr", cidr: "fd00:244::/32" }, nodeAddresses: [] } as const;

  test("has sets of its own names, cut at the kernel's 31 characters", () => {
    expect(setName("KUBE-CLUSTER-IP", 6)).toBe("KUBE-6-CLUSTER-IP");
    expect(setName("KUBE-LOAD-BALANCER-SOURCE-CIDR", 6)).toBe("KUBE-6-LOAD-BALANCER-SOURCE-CID");
    const names = setIds.flatMap((id) => [setName(id, 4), setName(id, 6)]);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name.length).toBeLessThanOrEqual(31);
  });

  test("writes addresses in brackets to ipvsadm and bare to sets, and leaves rows of IPv4 out", () => {
    expect(served([row, port(2, [1])], six)).toEqual([
      "-A -t [fd00:96::1]:80 -s rr",
      "-a -t [fd00:96::1]:80 -r [fd00:244::5]:8080 -m -w 1",
      "add KUBE-6-CLUSTER-IP fd00:96::1,tcp:80",
      "add KUBE-6-IPVS-IPS fd00:96::1",
      "add KUBE-6-LOOP-BACK fd00:244::5,tcp:8080,fd00:244::5",
      "address add fd00:96::1/128 dev kube-ipvs0",
    ]);
    const chains = rules([row], six);
    expect(chains.get("nat/KUBE-SERVICES")?.[0]).toBe("-s ::1/128 -j RETURN");
    expect(chains.get("filter/KUBE-IPVS-FILTER")?.at(-1)).toEndWith("-j REJECT --reject-with icmp6-port-unreachable");
  });
});
