import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { foldMade, MadeList } from "./made.ts";
import { hostLink, podNetns } from "./names.ts";
import {
  fabricBatch,
  fabricLinksBatch,
  fabricRulesBatches,
  hostBatch,
  hostJoinBatch,
  hostServicesBatch,
  nodeBatch,
  nodePlace,
  nodeRoutesBatch,
  podBatch,
  podLinksBatch,
  podMac,
} from "./plan.ts";
import { checkRanges } from "./ranges.ts";

const ranges = {
  pods: "10.244.0.0/16",
  services: "10.96.0.0/16",
  loadBalancers: "10.97.0.0/16",
  nodes: "10.98.0.0/24",
};
const six = {
  pods: "fd00:10:244::/56",
  services: "fd00:10:96::/112",
  loadBalancers: "fd00:10:97::/112",
  nodes: "fd00:10:98::/64",
};

describe("names on the host", () => {
  test("fit into a link's 15 characters, however long the stack's name is", () => {
    expect(hostLink("shop")).toBe("fl-shop.h");
    expect(hostLink("a-rather-long-name")).toMatch(/^fl-[0-9a-f]{8}\.h$/);
  });

  test("tell two pods of one name apart", () => {
    expect(podNetns("shop", { uid: "1", name: "cart" })).not.toBe(podNetns("shop", { uid: "2", name: "cart" }));
  });
});

describe("the ranges of a stack", () => {
  const message = (changed: object, routes: { dst: string; dev?: string }[] = []) => {
    try {
      checkRanges([{ ...ranges, ...changed }, six], routes, "fl-own.h");
      return undefined;
    } catch (error) {
      return `${(error as Error).message}; ${(error as { remedy?: string }).remedy ?? ""}`;
    }
  };

  test("are free on a machine with other routes, and on one's own link", () => {
    const routes = [{ dst: "default" }, { dst: "192.0.2.0/24" }, { dst: "10.244.0.0/16", dev: "fl-own.h" }];
    expect(message({}, routes)).toBeUndefined();
  });

  test("are refused with the route that is in the way and the option that helps", () => {
    expect(message({}, [{ dst: "10.244.7.1", dev: "tun0" }])).toBe(
      "the pod range 10.244.0.0/16 overlaps the route 10.244.7.1 dev tun0 of this machine; choose another range with --pod-cidr",
    );
    expect(message({}, [{ dst: "10.0.0.0/8", dev: "tun0" }])).toContain("overlaps the route 10.0.0.0/8 dev tun0");
    expect(message({}, [{ dst: "10.96.0.0/16", dev: "fl-other.h" }])).toContain("end that other Fairlead stack");
  });

  test("may not overlap each other, nor be no ranges", () => {
    expect(message({ services: "10.244.8.0/24" })).toContain("overlaps the pod range 10.244.0.0/16");
    expect(message({ pods: "10.244.0.0" })).toContain("not an address range");
    expect(message({ nodes: "10.98.0.0/30" })).toContain("too small");
    expect(message({ services: "fd00:1::/48" })).toContain("an IPv6 Service range has a prefix length from 64 to 120");
    expect(message({}, [{ dst: "fd00:10:244:7::/64", dev: "tun0" }])).toContain(
      "the pod range fd00:10:244::/56 overlaps the route fd00:10:244:7::/64 dev tun0",
    );
  });
});

describe("what ip is told", () => {
  const first = nodePlace([ranges], "node-1", 0);
  const second = nodePlace([ranges], "node-2", 1);

  test("gives the host one link and one route a range", () => {
    expect(hostBatch("shop", [ranges], first).lines).toEqual([
      "link add fl-shop.h address ee:ee:ee:ee:ee:ed type veth peer name host0 address ee:ee:ee:ee:ee:ee netns fl-shop.fabric",
      "addr replace 10.98.0.254/32 dev fl-shop.h",
      "link set fl-shop.h up",
      "neigh replace 10.98.0.1 lladdr ee:ee:ee:ee:ee:ee dev fl-shop.h nud permanent",
      "route add 10.244.0.0/16 via 10.98.0.1 dev fl-shop.h onlink src 10.98.0.254",
      "route add 10.96.0.0/16 via 10.98.0.1 dev fl-shop.h onlink src 10.98.0.254",
      "route add 10.97.0.0/16 via 10.98.0.1 dev fl-shop.h onlink src 10.98.0.254",
      "route add 10.98.0.0/24 via 10.98.0.1 dev fl-shop.h onlink src 10.98.0.254",
    ]);
  });

  test("makes load-balancer addresses local to node 1 only", () => {
    const local = "route add local 10.97.0.0/16 dev lo src 10.98.0.1";
    expect(nodeBatch("shop", [ranges], first, true).lines).toContain(local);
    expect(nodeBatch("shop", [ranges], second, false).lines.join()).not.toContain("route add local");
    expect(hostJoinBatch("shop", [ranges]).lines).toContain("route add 10.98.0.254 dev host0 src 10.98.0.253");
    expect(nodeRoutesBatch("shop", [ranges], second, [first, second]).lines).toEqual([
      "route replace 10.244.0.0/24 via 10.98.0.1 dev eth0 src 10.98.0.2",
      "route replace 10.98.0.254 via 10.98.0.253 dev eth0 src 10.98.0.2",
      "route replace 10.97.0.0/16 via 10.98.0.1 dev eth0 src 10.98.0.2",
    ]);
  });

  test("leads a packet with a node's mark to that node, and the host's others to node 1", () => {
    const [rules] = fabricRulesBatches("shop", [ranges], 2);
    expect(rules?.lines).toEqual([
      "rule add priority 101 fwmark 1 lookup 101",
      "rule add priority 102 fwmark 2 lookup 102",
      "rule add priority 33000 iif host0 lookup 99",
      "rule add priority 34000 lookup 98",
    ]);
    expect(fabricLinksBatch("shop", [second], [first, second]).lines).toContain(
      "route replace default via 10.98.0.2 dev br0 table 102",
    );
    expect(fabricBatch("shop", [ranges], first).lines).toContain("route add default via 10.98.0.1 dev br0 table 99");
  });

  test("routes every pod by itself, with both neighbours known", () => {
    const pod = { uid: "u", namespace: "shop", name: "cart", node: "node-1", addresses: ["10.244.0.5"] };
    const node = podLinksBatch("shop", first, [pod]).lines;
    expect(node[3]).toMatch(/^route replace 10\.244\.0\.5\/32 dev pod[0-9a-f]{10} src 10\.98\.0\.1$/);
    expect(node[2]).toContain(`lladdr ${podMac("10.244.0.5")}`);
    expect(podMac("10.244.0.5")).toBe("0a:58:0a:f4:00:05");
    expect(podBatch("shop", first, pod).lines.at(-1)).toBe("route add default via 10.98.0.1 dev eth0 onlink");
  });

  test("gives nodes and pods an address of each family, in use at once, with gateways that IPv6 need not ask for", () => {
    const both = [ranges, six];
    const node = nodePlace(both, "node-2", 1);
    expect(node).toEqual({
      name: "node-2",
      addresses: ["10.98.0.2", "fd00:10:98::2"],
      podRanges: ["10.244.1.0/24", "fd00:10:244:1::/64"],
    });
    expect(hostBatch("shop", both, nodePlace(both, "node-1", 0)).lines).toContain(
      "route add fd00:10:96::/112 via fd00:10:98::1 dev fl-shop.h onlink src fd00:10:98::fffe",
    );
    expect(nodeBatch("shop", [six], nodePlace([six], "node-1", 0), true).lines).toEqual([
      "link set lo up",
      "addr replace fd00:10:98::1/64 dev eth0 nodad",
      "link set eth0 up",
      "route add local fd00:10:97::/112 dev lo src fd00:10:98::1",
      "route add ::/0 via fd00:10:98::fffd dev eth0 src fd00:10:98::1",
    ]);
    const pod = {
      uid: "u",
      namespace: "shop",
      name: "cart",
      node: "node-2",
      addresses: ["fd00:10:244:1::5", "10.244.1.5"],
    };
    expect(podBatch("shop", node, pod).lines).toEqual([
      "link set lo up",
      "addr replace fd00:10:244:1::5/128 dev eth0 nodad",
      "addr replace 10.244.1.5/32 dev eth0",
      "link set eth0 up",
      "neigh replace fd00:10:98::2 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent",
      "route add ::/0 via fd00:10:98::2 dev eth0 onlink",
      "neigh replace 10.98.0.2 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent",
      "route add default via 10.98.0.2 dev eth0 onlink",
    ]);
  });

  test("leads the host to further Service ranges, leaves alone what others have, and forgets what is gone", () => {
    const both = [ranges, six];
    const node = nodePlace(both, "node-1", 0);
    const dev = "fl-shop.h";
    const routes = [
      { dst: "10.244.0.0/16", dev, gateway: "10.98.0.1" },
      { dst: "10.60.0.0/24", dev, gateway: "10.98.0.1" },
      { dst: "10.61.0.0/24", dev, gateway: "10.98.0.1" },
      { dst: "fe80::/64", dev },
      { dst: "10.62.0.0/16", dev: "tun0" },
    ];
    const wanted = ["10.96.0.0/16", "10.60.0.0/24", "fd00:60::/112", "10.62.7.0/24", "10.96.3.0/24"];
    expect(hostServicesBatch("shop", both, node, wanted, routes)).toEqual({
      batch: {
        netns: undefined,
        lines: [
          "route del 10.61.0.0/24 dev fl-shop.h",
          "route add fd00:60::/112 via fd00:10:98::1 dev fl-shop.h onlink src fd00:10:98::fffe",
        ],
      },
      problems: ["10.62.7.0/24: it overlaps the route 10.62.0.0/16 dev tun0 of this machine"],
    });
    expect(hostServicesBatch("shop", [ranges], node, ["fd00:60::/112"], []).problems).toEqual([
      "fd00:60::/112: this stack has no IPv6",
    ]);
  });

  test("has an end: no address for a node beyond the ranges", () => {
    expect(() => nodePlace([{ ...ranges, pods: "10.244.0.0/23" }], "node-3", 2)).toThrow("no /24 for node number 3");
  });
});

describe("the list of what was made", () => {
  test("knows after a crash what was begun and what was finished", () => {
    const folder = mkdtempSync(join(tmpdir(), "fl-made-"));
    const file = join(folder, "network");
    const list = new MadeList(file);
    list.willMake("netns", ["a", "b", "c"]);
    list.completed("netns", ["a", "b"]);
    list.removed("netns", ["b"]);
    const again = new MadeList(file);
    expect(again.all().map(({ name }) => name)).toEqual(["a", "c"]);
    expect(["a", "c"].map((name) => again.isComplete("netns", name))).toEqual([true, false]);
    expect(readFileSync(file, "utf8")).toBe("* netns a\n+ netns c\n");
    rmSync(folder, { recursive: true });
  });

  test("passes over lines that were cut short", () => {
    expect([...foldMade("+ netns a\n+ netn").keys()]).toEqual(["netns a"]);
  });
});
