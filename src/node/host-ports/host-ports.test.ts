import { describe, expect, test } from "bun:test";
import type { ContainerPort, Pod } from "../../api/kinds.ts";
import { HostPortTable, hostPortText, podHostPorts } from "./host-ports.ts";
import * as iptables from "./iptables.ts";
import * as nftables from "./nftables.ts";

const pod = (uid: string, ports: readonly ContainerPort[], more: object = {}): Pod =>
  ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: uid, namespace: "default", uid },
    spec: { containers: [{ name: "c", ports }], ...more },
  }) as Pod;
const texts = (one: Pod, ...addresses: string[]) => podHostPorts(one, addresses).ports.map(hostPortText);

describe("the host ports of a pod", () => {
  test("are those that name one, of containers and sidecars", () => {
    const sidecar = { name: "s", restartPolicy: "Always", ports: [{ containerPort: 9, hostPort: 90 }] };
    const init = { name: "i", ports: [{ containerPort: 7, hostPort: 70 }] };
    const one = pod("a", [{ containerPort: 80, hostPort: 8080 }, { containerPort: 81 }], {
      initContainers: [init, sidecar],
    });
    expect(texts(one, "10.0.0.2")).toEqual(["TCP 0.0.0.0:8080", "TCP 0.0.0.0:90"]);
  });

  test("are of the family of their hostIP, or of both without one", () => {
    const one = pod("a", [
      { containerPort: 80, hostPort: 8080 },
      { containerPort: 81, hostPort: 8081, hostIP: "192.0.2.1", protocol: "UDP" },
    ]);
    expect(texts(one, "10.0.0.2", "fd00::2")).toEqual(["TCP 0.0.0.0:8080", "TCP [::]:8080", "UDP 192.0.2.1:8081"]);
  });

  test("are none on the host's network, where the pod listens itself", () => {
    expect(texts(pod("a", [{ containerPort: 80, hostPort: 80 }], { hostNetwork: true }), "10.98.0.1")).toEqual([]);
  });

  test("are given once, by protocol and address", () => {
    const table = new HostPortTable();
    const of = (uid: string, port: Partial<ContainerPort>) =>
      podHostPorts(pod(uid, [{ containerPort: 80, hostPort: 54323, ...port }]), ["10.0.0.2"]);
    table.add(of("a", { hostIP: "127.0.0.1" }));
    table.add(of("b", { hostIP: "192.0.2.1" }));
    table.add(of("c", { hostIP: "192.0.2.1", protocol: "UDP" }));
    expect(() => table.add(of("d", { hostIP: "192.0.2.1" }))).toThrow(
      "host port TCP 192.0.2.1:54323 is taken by pod default/b",
    );
    table.remove("b");
    table.add(of("d", { hostIP: "192.0.2.1" }));
  });
});

describe("as rules", () => {
  const ports = podHostPorts(
    pod("a", [
      { containerPort: 80, hostPort: 8080 },
      { containerPort: 53, hostPort: 53, protocol: "UDP", hostIP: "192.0.2.1" },
    ]),
    ["10.0.0.2"],
  );

  test("iptables has portmap's chains: a jump a protocol, the hairpin and 127.0.0.1 marked, the translation", () => {
    const chain = iptables.podChain("a");
    expect(chain).toMatch(/^CNI-DN-[0-9a-f]{21}$/);
    expect(iptables.addText([ports], 4).split("\n")).toEqual([
      "*nat",
      `:${chain} - [0:0]`,
      `-A ${chain} -s 10.0.0.2/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK`,
      `-A ${chain} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK`,
      `-A ${chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.2:80`,
      `-A ${chain} -s 10.0.0.2/32 -d 192.0.2.1/32 -p udp -m udp --dport 53 -j CNI-HOSTPORT-SETMARK`,
      `-A ${chain} -s 127.0.0.1/32 -d 192.0.2.1/32 -p udp -m udp --dport 53 -j CNI-HOSTPORT-SETMARK`,
      `-A ${chain} -d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.0.0.2:53`,
      `-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"fairlead\\" id: \\"a\\"" -m multiport --dports 8080 -j ${chain}`,
      `-A CNI-HOSTPORT-DNAT -p udp -m comment --comment "dnat name: \\"fairlead\\" id: \\"a\\"" -m multiport --dports 53 -j ${chain}`,
      "COMMIT",
      "",
    ]);
    expect(iptables.addText([ports], 6)).toBe("");
  });

  test("a load takes out the chains of pods that are gone, and adds the jumps once", () => {
    const text = iptables.loadText(
      [ports],
      4,
      ["10.97.0.0/16"],
      [iptables.podChain("a"), "CNI-DN-old"],
      [...["PREROUTING", "OUTPUT", "POSTROUTING"]],
    );
    expect(text).toContain("-X CNI-DN-old\n");
    expect(text).not.toContain(`-X ${iptables.podChain("a")}`);
    expect(text).toContain("-A CNI-HOSTPORT-DNAT -d 10.97.0.0/16 -j RETURN");
    expect(text).not.toContain("-A PREROUTING");
    expect(iptables.loadText([], 4, [], [], ["OUTPUT"])).toContain("-A PREROUTING -m addrtype --dst-type LOCAL");
  });

  test("are told to be whole or not from what the tools list", () => {
    const rules = iptables.loadText([ports], 4, [], [], []).replace("-I POSTROUTING", "-A POSTROUTING");
    expect(iptables.ownRules(rules, [ports], 4, [])).toContain("--dports 8080");
    expect(iptables.ownRules(`-A INPUT -j ACCEPT\n${rules}`, [ports], 4, [])).toBe(
      iptables.ownRules(rules, [ports], 4, []),
    );
    for (const line of rules.match(/^-A .*\n/gm)!)
      expect(iptables.ownRules(rules.replace(line, ""), [ports], 4, [])).toBeUndefined();
    const jumps = iptables.readChains(rules.replace(/^-A OUTPUT .*\n/m, "")).jumps;
    expect([...jumps].sort()).toEqual(["POSTROUTING", "PREROUTING"]);
    const listing = (hostports: string) => `table ip cni_hostport {
	comment "CNI portmap plugin"
	map hostports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { ${hostports} }
	}

	map hostip_hostports {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		elements = { 192.0.2.1 . udp . 53 : 10.0.0.2 . 53 }
	}

	set pods {
		type ipv4_addr
		elements = { 10.0.0.2 }
	}

	set hairpin {
		type ipv4_addr . ipv4_addr
		elements = { 10.0.0.2 . 10.0.0.2 }
	}

	chain to-pods {
		dnat ip to ip daddr . meta l4proto . th dport map @hostip_hostports
		dnat ip to meta l4proto . th dport map @hostports
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump to-pods
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump to-pods
	}

	chain masquerading {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr . ip daddr @hairpin masquerade
		ip saddr 127.0.0.1 ip daddr @pods masquerade
	}
}
`;
    const whole = listing("tcp . 8080 : 10.0.0.2 . 80");
    expect(nftables.ownRules(whole, [ports], 4, [])).toContain("tcp . 8080 : 10.0.0.2 . 80");
    expect(nftables.ownRules(whole, [], 4, [])).toBeUndefined();
    expect(nftables.ownRules(whole.replace(/.*@hairpin masquerade\n/, ""), [ports], 4, [])).toBeUndefined();
    expect(nftables.ownRules(whole.replace(/\telements = .*\n/, ""), [ports], 4, [])).toBeUndefined();
  });

  test("nftables has an element a port, in the map of its kind", () => {
    expect(nftables.addText([ports], 4).split("\n")).toEqual([
      "add element ip cni_hostport hostports { tcp . 8080 : 10.0.0.2 . 80 }",
      "add element ip cni_hostport hostip_hostports { 192.0.2.1 . udp . 53 : 10.0.0.2 . 53 }",
      "add element ip cni_hostport pods { 10.0.0.2 }",
      "add element ip cni_hostport hairpin { 10.0.0.2 . 10.0.0.2 }",
      "",
    ]);
    expect(nftables.removeText([ports], 4)).toContain("delete element ip cni_hostport hostports { tcp . 8080 }\n");
  });
});
